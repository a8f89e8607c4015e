#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "optim/schedule_config.h"

namespace dsft::optim {

/// A learning rate as a function of the number of updates applied before: as transformers' get_scheduler gives it
/// (transformers/optimization.py), `learning_rate` times a factor; or as a scheduler of DeepSpeed's engine leaves it
/// (deepspeed/runtime/lr_schedules.py), stepped after each update that was not skipped.
struct Schedule {
  SchedulerType type = SchedulerType::kLinear;
  SchedulerKwargs kwargs = {};
  double learning_rate = 0;  ///< the peak
  int64_t warmup_steps = 0;
  int64_t total_steps = 0;
};

/// Faults (kUsage) what no schedule can be made of: a required keyword that is missing, lr_end not below the rate,
/// phases of warmup_stable_decay that do not fit into the steps, a warm-up of DeepSpeed's without a step, a beta1 that
/// reaches 1.
void check_schedule(const Schedule& schedule);

/// Faults (kUsage) a written total_num_steps that is not the length of the run, as transformers does with DeepSpeed
/// files: the rest of a longer run would train at the schedule's last rate, a shorter one would not come to it.
void check_total_steps(const Schedule& schedule);

/// The rate of the update that follows `step` applied updates; the first one has step 0.
double learning_rate(const Schedule& schedule, int64_t step);

/// Whether the schedule moves AdamW's betas beside the rate: OneCycle, but with cycle_momentum false.
bool moves_betas(const Schedule& schedule);

/// beta1 of the update that follows `step` applied updates, where the schedule moves betas.
double beta1(const Schedule& schedule, int64_t step);

/// beta2 of all updates, where the schedule moves betas: whatever the optimizer says.
inline constexpr double kMovedBeta2 = 0.99;

/// Steps of warm-up for `training.warmup_ratio`: ceil(ratio * total).
int64_t warmup_steps_of(double ratio, int64_t total_steps);

/// The updates whose rates say what a schedule does: the first, the last of the warm-up, the middle one and the last,
/// counted from 0, each once, in order.
std::vector<std::pair<std::string, int64_t>> notable_steps(const Schedule& schedule);

}  // namespace dsft::optim

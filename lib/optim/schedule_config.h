#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "config/words.h"

namespace dsft::config {
class Fields;
class Section;
}  // namespace dsft::config

namespace dsft::optim {

/// Of one run: more are a slip of the pen, and the table of learning rates has an entry for each.
inline constexpr int64_t kMostUpdates = 10'000'000;

/// Learning rate schedules, by transformers' names, and DeepSpeed's by theirs.
enum class SchedulerType {
  kLinear,
  kCosine,
  kCosineWithRestarts,
  kPolynomial,
  kConstant,
  kConstantWithWarmup,
  kInverseSqrt,
  kCosineWithMinLr,
  kCosineWarmupWithMinLr,
  kWarmupStableDecay,
  kWarmupLr,
  kWarmupDecayLr,
  kWarmupCosineLr,
  kOneCycle,
};

constexpr auto words_of(SchedulerType) {
  return std::to_array<config::Word<SchedulerType>>({
      {"linear", SchedulerType::kLinear},
      {"cosine", SchedulerType::kCosine},
      {"cosine_with_restarts", SchedulerType::kCosineWithRestarts},
      {"polynomial", SchedulerType::kPolynomial},
      {"constant", SchedulerType::kConstant},
      {"constant_with_warmup", SchedulerType::kConstantWithWarmup},
      {"inverse_sqrt", SchedulerType::kInverseSqrt},
      {"cosine_with_min_lr", SchedulerType::kCosineWithMinLr},
      {"cosine_warmup_with_min_lr", SchedulerType::kCosineWarmupWithMinLr},
      {"warmup_stable_decay", SchedulerType::kWarmupStableDecay},
      {"WarmupLR", SchedulerType::kWarmupLr},
      {"WarmupDecayLR", SchedulerType::kWarmupDecayLr},
      {"WarmupCosineLR", SchedulerType::kWarmupCosineLr},
      {"OneCycle", SchedulerType::kOneCycle},
      {"reduce_lr_on_plateau", {}, "schedules that follow a metric"},
  });
}

/// Whether this is DeepSpeed's WarmupLR, WarmupDecayLR or WarmupCosineLR.
constexpr bool is_deepspeed_warmup(SchedulerType type) {
  return type == SchedulerType::kWarmupLr || type == SchedulerType::kWarmupDecayLr ||
         type == SchedulerType::kWarmupCosineLr;
}

/// Form of a warm-up or decay: linear, cosine, or 1 - sqrt(progress); of DeepSpeed's warm-ups: linear, or the logarithm
/// of the step.
enum class RampType { kLinear, kCosine, kOneMinusSqrt, kLog };

constexpr auto words_of(RampType) {
  return std::to_array<config::Word<RampType>>({{"linear", RampType::kLinear},
                                                {"cosine", RampType::kCosine},
                                                {"1-sqrt", RampType::kOneMinusSqrt},
                                                {"log", RampType::kLog}});
}

/// `training.lr_scheduler_kwargs`: what each schedule takes beside warm-up and length; none means transformers' or
/// DeepSpeed's default (docs/recipe.md).
struct SchedulerKwargs {
  std::optional<double> num_cycles;         ///< cosine* 0.5, cosine_with_restarts 1
  std::optional<double> lr_end;             ///< polynomial: 1e-7
  std::optional<double> power;              ///< polynomial: 1
  std::optional<int64_t> timescale;         ///< inverse_sqrt: warm-up steps, or 10000
  std::optional<double> min_lr;             ///< *_with_min_lr: the final rate
  std::optional<double> min_lr_rate;        ///< *_with_min_lr: the same as a share of learning_rate
  std::optional<double> warmup_lr_rate;     ///< cosine_warmup_with_min_lr: first rate as a share of learning_rate
  std::optional<int64_t> num_stable_steps;  ///< warmup_stable_decay: the rest
  std::optional<int64_t> num_decay_steps;   ///< warmup_stable_decay: required
  std::optional<RampType> warmup_type;      ///< warmup_stable_decay: linear; Warmup*LR: log
  std::optional<RampType> decay_type;       ///< warmup_stable_decay: cosine
  std::optional<double> min_lr_ratio;       ///< warmup_stable_decay: 0

  // DeepSpeed's
  std::optional<int64_t> total_num_steps;           ///< WarmupDecayLR, WarmupCosineLR: the run's length
  std::optional<double> warmup_min_lr;              ///< WarmupLR, WarmupDecayLR: 0
  std::optional<double> warmup_min_ratio;           ///< WarmupCosineLR: 0
  std::optional<double> cos_min_ratio;              ///< WarmupCosineLR: 1e-4
  std::optional<double> cycle_min_lr;               ///< OneCycle: required
  std::optional<double> cycle_max_lr;               ///< OneCycle: required
  std::optional<int64_t> cycle_first_step_size;     ///< OneCycle: 2000
  std::optional<int64_t> cycle_second_step_size;    ///< OneCycle: cycle_first_step_size
  std::optional<int64_t> cycle_first_stair_count;   ///< OneCycle: 0, no stairs
  std::optional<int64_t> cycle_second_stair_count;  ///< OneCycle: cycle_first_stair_count
  std::optional<int64_t> decay_step_size;           ///< OneCycle: 0, no decay after the cycle
  std::optional<double> decay_lr_rate;              ///< OneCycle: 0
  std::optional<bool> cycle_momentum;               ///< OneCycle: true, AdamW's betas move too
  std::optional<double> cycle_min_mom;              ///< OneCycle: 0.8
  std::optional<double> cycle_max_mom;              ///< OneCycle: 0.9
  std::optional<double> decay_mom_rate;             ///< OneCycle: 0
};

void describe_fields(config::Fields& fields, SchedulerKwargs& config);
/// Keys that this schedule does not take, and those that it requires.
void validate(const SchedulerKwargs& config, SchedulerType type, config::Section& section);

}  // namespace dsft::optim

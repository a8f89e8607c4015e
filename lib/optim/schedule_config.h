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

/// Learning rate schedules, by transformers' names.
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
      {"reduce_lr_on_plateau", {}, "schedules that follow a metric"},
  });
}

/// Form of a warm-up or decay: linear, cosine, or 1 - sqrt(progress).
enum class RampType { kLinear, kCosine, kOneMinusSqrt };

constexpr auto words_of(RampType) {
  return std::to_array<config::Word<RampType>>(
      {{"linear", RampType::kLinear}, {"cosine", RampType::kCosine}, {"1-sqrt", RampType::kOneMinusSqrt}});
}

/// `training.lr_scheduler_kwargs`: what each schedule takes beside warm-up and length; none means transformers' default
/// (docs/recipe.md).
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
  std::optional<RampType> warmup_type;      ///< warmup_stable_decay: linear
  std::optional<RampType> decay_type;       ///< warmup_stable_decay: cosine
  std::optional<double> min_lr_ratio;       ///< warmup_stable_decay: 0
};

void describe_fields(config::Fields& fields, SchedulerKwargs& config);
/// Keys that this schedule does not take, and those that it requires.
void validate(const SchedulerKwargs& config, SchedulerType type, config::Section& section);

}  // namespace dsft::optim

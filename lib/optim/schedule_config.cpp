#include "optim/schedule_config.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/nearest_name.h"
#include "config/fields.h"
#include "config/section.h"

namespace dsft::optim {
namespace {

/// The keyword arguments that a schedule takes in transformers/optimization.py or deepspeed/runtime/lr_schedules.py.
std::vector<std::string> keys_of(SchedulerType type) {
  switch (type) {
    case SchedulerType::kCosine:
    case SchedulerType::kCosineWithRestarts:
      return {"num_cycles"};
    case SchedulerType::kPolynomial:
      return {"lr_end", "power"};
    case SchedulerType::kInverseSqrt:
      return {"timescale"};
    case SchedulerType::kCosineWithMinLr:
      return {"num_cycles", "min_lr", "min_lr_rate"};
    case SchedulerType::kCosineWarmupWithMinLr:
      return {"num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"};
    case SchedulerType::kWarmupStableDecay:
      return {"num_cycles", "num_stable_steps", "num_decay_steps", "warmup_type", "decay_type", "min_lr_ratio"};
    case SchedulerType::kWarmupLr:
      return {"warmup_min_lr", "warmup_type"};
    case SchedulerType::kWarmupDecayLr:
      return {"total_num_steps", "warmup_min_lr", "warmup_type"};
    case SchedulerType::kWarmupCosineLr:
      return {"total_num_steps", "warmup_min_ratio", "warmup_type", "cos_min_ratio"};
    case SchedulerType::kOneCycle:
      return {"cycle_min_lr",
              "cycle_max_lr",
              "cycle_first_step_size",
              "cycle_second_step_size",
              "cycle_first_stair_count",
              "cycle_second_stair_count",
              "decay_step_size",
              "decay_lr_rate",
              "cycle_momentum",
              "cycle_min_mom",
              "cycle_max_mom",
              "decay_mom_rate"};
    case SchedulerType::kLinear:
    case SchedulerType::kConstant:
    case SchedulerType::kConstantWithWarmup:
      break;
  }
  return {};
}

/// The keywords of DeepSpeed's schedules.
void describe_deepspeed(config::Fields& fields, SchedulerKwargs& config) {
  using config::at_least;
  const auto add = [&](const char* name, auto& member, const char* help, auto... range) {
    fields.add(name, member, help, range...);
  };
  add("total_num_steps", config.total_num_steps,
      "WarmupDecayLR, WarmupCosineLR: the step where the descent ends (the last)", config::between(1, kMostUpdates));
  add("warmup_min_lr", config.warmup_min_lr, "WarmupLR, WarmupDecayLR: the first rate (0)", at_least(0));
  add("warmup_min_ratio", config.warmup_min_ratio, "WarmupCosineLR: the first rate as a share of learning_rate (0)",
      at_least(0));
  add("cos_min_ratio", config.cos_min_ratio, "WarmupCosineLR: the final rate as a share of learning_rate (1e-4)",
      at_least(0));
  add("cycle_min_lr", config.cycle_min_lr, "OneCycle: the rate at both ends of the cycle", at_least(0));
  add("cycle_max_lr", config.cycle_max_lr, "OneCycle: the rate at its peak", at_least(0));
  add("cycle_first_step_size", config.cycle_first_step_size, "OneCycle: updates of the ascent (2000)",
      config::between(1, kMostUpdates));
  add("cycle_second_step_size", config.cycle_second_step_size, "OneCycle: updates of the descent (those of the ascent)",
      config::between(0, kMostUpdates));
  add("cycle_first_stair_count", config.cycle_first_stair_count,
      "OneCycle: stairs of the ascent; 0: a straight line (0)", config::between(0, kMostUpdates));
  add("cycle_second_stair_count", config.cycle_second_stair_count,
      "OneCycle: stairs of the descent (those of the ascent)", config::between(0, kMostUpdates));
  add("decay_step_size", config.decay_step_size, "OneCycle: updates between two decays after the cycle; 0: none (0)",
      config::between(0, kMostUpdates));
  add("decay_lr_rate", config.decay_lr_rate, "OneCycle: what a decay adds to the divisor of cycle_min_lr (0)",
      at_least(0));
  add("cycle_momentum", config.cycle_momentum,
      "OneCycle: whether adam_beta1 falls as the rate rises, and adam_beta2 is 0.99 (true)");
  add("cycle_min_mom", config.cycle_min_mom,
      "OneCycle: adam_beta1 at the peak of the rate, and of the first update (0.8)", at_least(0));
  add("cycle_max_mom", config.cycle_max_mom, "OneCycle: adam_beta1 at both ends of the cycle (0.9)", at_least(0));
  add("decay_mom_rate", config.decay_mom_rate,
      "OneCycle: what a decay adds to the factor of cycle_max_mom after the cycle (0)", at_least(0));
}

void validate_one_cycle(const SchedulerKwargs& config, config::Section& section) {
  if (!config.cycle_min_lr) section.fault("cycle_min_lr", "is required by the schedule OneCycle");
  if (!config.cycle_max_lr) section.fault("cycle_max_lr", "is required by the schedule OneCycle");
  if (config.cycle_momentum.value_or(true)) return;
  for (const char* key : {"cycle_min_mom", "cycle_max_mom", "decay_mom_rate"})
    if (section.is_written(key)) section.no_effect(key, "cycle_momentum is false");
}

void validate_warmup_type(const SchedulerKwargs& config, SchedulerType type, config::Section& section) {
  if (!config.warmup_type) return;
  const bool is_of_deepspeed = *config.warmup_type == RampType::kLinear || *config.warmup_type == RampType::kLog;
  if (is_deepspeed_warmup(type) && !is_of_deepspeed) {
    section.fault("warmup_type",
                  concat("the schedule ", config::to_word(type), " has the warm-ups log and linear, not `",
                         config::to_word(*config.warmup_type), "`"));
  }
  if (type == SchedulerType::kWarmupStableDecay && *config.warmup_type == RampType::kLog)
    section.fault("warmup_type",
                  "the schedule warmup_stable_decay has the warm-ups linear, cosine and 1-sqrt, not `log`");
}

}  // namespace

void describe_fields(config::Fields& fields, SchedulerKwargs& config) {
  fields.add("num_cycles", config.num_cycles,
             "cosine schedules: waves, 0.5 being one descent; cosine_with_restarts: restarts (1)", config::above(0));
  fields.add("lr_end", config.lr_end, "polynomial: the final rate (1e-7)", config::at_least(0));
  fields.add("power", config.power, "polynomial: the exponent (1)", config::above(0));
  fields.add("timescale", config.timescale, "inverse_sqrt: steps until the rate halves (the warm-up, or 10000)",
             config::at_least(1));
  fields.add("min_lr", config.min_lr, "cosine_with_min_lr: the final rate", config::at_least(0));
  fields.add("min_lr_rate", config.min_lr_rate, "cosine_with_min_lr: the final rate as a share of learning_rate",
             config::between(0, 1));
  fields.add("warmup_lr_rate", config.warmup_lr_rate,
             "cosine_warmup_with_min_lr: the first rate as a share of learning_rate", config::between(0, 1));
  fields.add("num_stable_steps", config.num_stable_steps, "warmup_stable_decay: steps at the full rate (what is left)",
             config::at_least(0));
  fields.add("num_decay_steps", config.num_decay_steps, "warmup_stable_decay: steps of the descent",
             config::at_least(1));
  fields.add("warmup_type", config.warmup_type,
             "warmup_stable_decay: form of the warm-up (linear); WarmupLR, WarmupDecayLR, WarmupCosineLR: log or "
             "linear (log)");
  fields.add("decay_type", config.decay_type, "warmup_stable_decay: form of the descent (cosine)");
  fields.add("min_lr_ratio", config.min_lr_ratio, "warmup_stable_decay: the final rate as a share of learning_rate (0)",
             config::between(0, 1));
  describe_deepspeed(fields, config);
}

void validate(const SchedulerKwargs& config, SchedulerType type, config::Section& section) {
  const std::vector<std::string> taken = keys_of(type);
  SchedulerKwargs unbound;
  config::Fields fields;
  describe_fields(fields, unbound);
  for (const std::string& name : fields.names()) {
    if (!section.is_written(name) || std::find(taken.begin(), taken.end(), name) != taken.end()) continue;
    section.fault(name, concat("the schedule ", config::to_word(type), " takes ",
                               taken.empty() ? "no keywords" : join_words(taken), ", not `", name, "`"));
  }
  const bool has_min_lr = type == SchedulerType::kCosineWithMinLr || type == SchedulerType::kCosineWarmupWithMinLr;
  if (has_min_lr && !config.min_lr && !config.min_lr_rate) {
    section.fault("min_lr",
                  concat("is required by the schedule ", config::to_word(type), ": write min_lr or min_lr_rate"));
  }
  if (has_min_lr) section.conflict("min_lr", "min_lr_rate", "both say where the rate ends; write one");
  if (type == SchedulerType::kWarmupStableDecay && !config.num_decay_steps) {
    section.fault("num_decay_steps", "is required by the schedule warmup_stable_decay");
  }
  if (config.decay_type == RampType::kLog)
    section.fault("decay_type",
                  "the schedule warmup_stable_decay has the descents linear, cosine and 1-sqrt, not `log`");
  validate_warmup_type(config, type, section);
  if (type == SchedulerType::kOneCycle) validate_one_cycle(config, section);
}

}  // namespace dsft::optim

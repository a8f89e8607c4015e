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

/// The keyword arguments that a schedule takes in transformers/optimization.py.
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
    case SchedulerType::kLinear:
    case SchedulerType::kConstant:
    case SchedulerType::kConstantWithWarmup:
      break;
  }
  return {};
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
  fields.add("warmup_type", config.warmup_type, "warmup_stable_decay: form of the warm-up (linear)");
  fields.add("decay_type", config.decay_type, "warmup_stable_decay: form of the descent (cosine)");
  fields.add("min_lr_ratio", config.min_lr_ratio, "warmup_stable_decay: the final rate as a share of learning_rate (0)",
             config::between(0, 1));
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
}

}  // namespace dsft::optim

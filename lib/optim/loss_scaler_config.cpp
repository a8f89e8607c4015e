#include "optim/loss_scaler_config.h"

#include "config/fields.h"
#include "config/section.h"

namespace dsft::optim {

void describe_fields(config::Fields& fields, LossScalerConfig& config) {
  fields.add("loss_scale", config.loss_scale,
             "fp16: what the loss is multiplied by; 0: a scale that moves, as the next keys say", config::at_least(0));
  fields.add("initial_scale_power", config.initial_scale_power, "The first scale is 2 to this power",
             config::between(0, 64));
  fields.add("loss_scale_window", config.loss_scale_window, "Updates without an overflow until the scale doubles",
             config::at_least(1));
  fields.add("hysteresis", config.hysteresis, "This many overflows before the scale halves", config::at_least(1));
  fields.add("consecutive_hysteresis", config.consecutive_hysteresis,
             "Count those overflows anew after each good update");
  fields.add("min_loss_scale", config.min_loss_scale, "The scale never falls below", config::above(0));
}

void validate(const LossScalerConfig& config, config::Section& section) {
  if (config.loss_scale == 0) return;
  const LossScalerConfig defaults;
  const auto warn_where = [&](const char* key, bool is_changed) {
    if (is_changed) section.no_effect(key, "loss_scale sets a scale that does not move");
  };
  warn_where("initial_scale_power", config.initial_scale_power != defaults.initial_scale_power);
  warn_where("loss_scale_window", config.loss_scale_window != defaults.loss_scale_window);
  warn_where("hysteresis", config.hysteresis != defaults.hysteresis);
  warn_where("consecutive_hysteresis", config.consecutive_hysteresis != defaults.consecutive_hysteresis);
  warn_where("min_loss_scale", config.min_loss_scale != defaults.min_loss_scale);
}

}  // namespace dsft::optim

#pragma once

#include <cstdint>

namespace dsft::config {
class Fields;
class Section;
}  // namespace dsft::config

namespace dsft::optim {

/// The recipe's section `training.loss_scaler`: the loss scale of fp16 training, by the names and with the defaults of
/// DeepSpeed's fp16 block (runtime/precision_config.py).
struct LossScalerConfig {
  double loss_scale = 0;  ///< 0: dynamic, by the other keys; else this one, always
  int64_t initial_scale_power = 16;
  int64_t loss_scale_window = 1000;
  int64_t hysteresis = 2;
  bool consecutive_hysteresis = false;
  double min_loss_scale = 1;
  bool operator==(const LossScalerConfig&) const = default;
};

void describe_fields(config::Fields& fields, LossScalerConfig& config);
/// Keys of the dynamic scale beside a fixed one.
void validate(const LossScalerConfig& config, config::Section& section);

}  // namespace dsft::optim

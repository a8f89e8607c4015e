#pragma once

#include <cstdint>

#include "optim/loss_scaler_config.h"

namespace dsft::optim {

/// DeepSpeed's names and defaults (runtime/precision_config.py).
struct LossScalerOptions {
  double initial_scale = 65536;  ///< 2^initial_scale_power
  int64_t loss_scale_window = 1000;
  int64_t hysteresis = 2;  ///< this many overflows before the scale falls
  bool consecutive_hysteresis = false;
  double min_loss_scale = 1;
  bool is_fixed = false;  ///< the initial scale stays (DeepSpeed's LossScaler)
};

/// The options that a recipe asks for.
LossScalerOptions to_options(const LossScalerConfig& config);

/// The loss scale of fp16 training, as deepspeed/runtime/fp16/loss_scaler.py (DynamicLossScaler, LossScaler) moves it;
/// but an overflow at the smallest scale is no error here: the caller counts those (is_at_minimum).
class LossScaler {
 public:
  /// All that it knows, to be saved and restored.
  struct State {
    double scale = 0;
    int64_t iteration = 0;
    int64_t last_overflow_iteration = -1;
    int64_t hysteresis = 0;
    bool operator==(const State&) const = default;
  };

  explicit LossScaler(const LossScalerOptions& options)
      : options_(options), state_{.scale = options.initial_scale, .hysteresis = options.hysteresis} {}

  /// What the loss is multiplied by before backward.
  double scale() const { return state_.scale; }
  /// Whether an overflow cannot lower it any further.
  bool is_at_minimum() const { return options_.is_fixed || state_.scale <= options_.min_loss_scale; }

  /// Tells it whether this update's gradients were non-finite: once per update, the same on all ranks.
  void update(bool has_overflow);

  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

 private:
  LossScalerOptions options_;
  State state_;
};

}  // namespace dsft::optim

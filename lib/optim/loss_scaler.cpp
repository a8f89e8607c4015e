#include "optim/loss_scaler.h"

#include <algorithm>
#include <cmath>

namespace dsft::optim {

LossScalerOptions to_options(const LossScalerConfig& config) {
  const bool is_fixed = config.loss_scale > 0;
  return {.initial_scale = is_fixed ? config.loss_scale : std::ldexp(1.0, static_cast<int>(config.initial_scale_power)),
          .loss_scale_window = config.loss_scale_window,
          .hysteresis = config.hysteresis,
          .consecutive_hysteresis = config.consecutive_hysteresis,
          .min_loss_scale = config.min_loss_scale,
          .is_fixed = is_fixed};
}

void LossScaler::update(bool has_overflow) {
  if (options_.is_fixed) return;
  if (has_overflow) {
    if (state_.hysteresis <= 1) {
      state_.scale = std::max(state_.scale / 2, options_.min_loss_scale);
    } else {
      --state_.hysteresis;
    }
    state_.last_overflow_iteration = state_.iteration;
  } else {
    if (options_.consecutive_hysteresis) state_.hysteresis = options_.hysteresis;
    const int64_t num_stable = state_.iteration - state_.last_overflow_iteration - 1;
    if (num_stable > 0 && num_stable % options_.loss_scale_window == 0) {
      if (!options_.consecutive_hysteresis) state_.hysteresis = options_.hysteresis;
      state_.scale *= 2;
    }
  }
  ++state_.iteration;
}

}  // namespace dsft::optim

#include "optim/loss_scaler.h"

#include <algorithm>

namespace dsft::optim {

void LossScaler::update(bool has_overflow) {
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

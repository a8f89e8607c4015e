#include "rl/entropy_coefficient.h"

#include <algorithm>

namespace dsft::rl {

double EntropyCoefficient::value() const {
  if (!config_.use_adaptive_entropy) return config_.entropy_coef;
  return state_.last_entropy <= config_.entropy_target ? state_.coefficient : 0.0;
}

void EntropyCoefficient::update(double entropy) {
  if (!config_.use_adaptive_entropy) return;
  state_.coefficient = entropy <= config_.entropy_target
                           ? std::min(state_.coefficient + config_.entropy_coef_delta, config_.entropy_coef_max)
                           : std::max(state_.coefficient - config_.entropy_coef_delta, config_.entropy_coef_min);
  state_.last_entropy = entropy;
}

}  // namespace dsft::rl

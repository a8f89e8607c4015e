#pragma once

namespace dsft::kernels {

/// What a pass over rows of logits does besides plain log-probabilities: logits are divided by a temperature, and
/// entropies are given, or their gradient is added.
struct TemperedSoftmax {
  float inverse_temperature = 1;
  float* entropies = nullptr;             ///< [rows]; null: not wanted
  const float* entropy_scales = nullptr;  ///< [rows]: how much of the entropy's gradient is added; null: none

  bool is_plain() const { return inverse_temperature == 1 && !entropies && !entropy_scales; }
};

}  // namespace dsft::kernels

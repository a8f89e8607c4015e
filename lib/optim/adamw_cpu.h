#pragma once

#include <cstdint>

namespace dsft::optim::cpu {

/// The numbers of one update, worked out once in fp64.
struct AdamWFactors {
  float gradient_factor;
  float decay;  ///< lr * weight_decay; 1 minus it would be rounded, the same way in every update
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float step_size;                     ///< lr / (1 - beta1^t)
  float inverse_sqrt_bias_correction;  ///< 1 / sqrt(1 - beta2^t)
  float epsilon;
};

/// Elements [begin, end) of an update.
void adamw_elements(float* weight, const float* gradient, float* exp_avg, float* exp_avg_sq,
                    const AdamWFactors& factors, int64_t begin, int64_t end);

/// Elements [begin, end) of copy = weight, rounded. T: c10::BFloat16, c10::Half.
template <typename T>
void round_elements(const float* weight, T* copy, int64_t begin, int64_t end);

/// Sum of squares of elements [begin, end) in fp64. The order of additions depends on the range alone.
double sum_of_squares(const float* values, int64_t begin, int64_t end);

}  // namespace dsft::optim::cpu

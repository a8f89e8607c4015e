#include "optim/adamw_cpu.h"

#include <cmath>

#include "kernels/vector_loops.h"

namespace dsft::optim::cpu {

DSFT_VECTOR_CLONES void adamw_elements(float* __restrict weight, const float* __restrict gradient,
                                       float* __restrict exp_avg, float* __restrict exp_avg_sq,
                                       const AdamWFactors& factors, int64_t begin, int64_t end) {
  const AdamWFactors f = factors;
  for (int64_t i = begin; i < end; ++i) {
    const float g = gradient[i] * f.gradient_factor;
    const float m = f.beta1 * exp_avg[i] + f.one_minus_beta1 * g;
    const float v = f.beta2 * exp_avg_sq[i] + f.one_minus_beta2 * g * g;
    const float denominator = std::sqrt(v) * f.inverse_sqrt_bias_correction + f.epsilon;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    weight[i] -= f.decay * weight[i] + f.step_size * m / denominator;
  }
}

template <>
DSFT_VECTOR_CLONES void round_elements<c10::BFloat16>(const float* __restrict weight, c10::BFloat16* __restrict copy,
                                                      int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) copy[i] = static_cast<c10::BFloat16>(weight[i]);
}

template <>
DSFT_VECTOR_CLONES void round_elements<c10::Half>(const float* __restrict weight, c10::Half* __restrict copy,
                                                  int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) copy[i] = static_cast<c10::Half>(weight[i]);
}

DSFT_VECTOR_CLONES double sum_of_squares(const float* values, int64_t begin, int64_t end) {
  // separate sums let the compiler use vectors without changing the order of additions
  constexpr int kNumSums = 16;
  double sums[kNumSums] = {};
  int64_t i = begin;
  for (; i + kNumSums <= end; i += kNumSums) {
    for (int lane = 0; lane < kNumSums; ++lane) {
      const double value = values[i + lane];
      sums[lane] += value * value;
    }
  }
  double total = 0;
  for (; i < end; ++i) total += static_cast<double>(values[i]) * values[i];
  for (double sum : sums) total += sum;
  return total;
}

}  // namespace dsft::optim::cpu

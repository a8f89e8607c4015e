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

/// What one call should take, so that `round_elements` finds the weights in the nearest cache: 16 KiB of each fp32
/// buffer. Whole pages of every buffer that begins at one.
inline constexpr int64_t kPieceElements = 4096;

/// Elements [begin, end) of an update. Gradient: float, c10::BFloat16, c10::Half.
template <typename Gradient>
void adamw_elements(float* weight, const Gradient* gradient, float* exp_avg, float* exp_avg_sq,
                    const AdamWFactors& factors, int64_t begin, int64_t end);

/// Elements [begin, end) of copy = weight, rounded to the nearest, ties to even. They go past the caches (another
/// device, or the next forward pass reads them), so that the copy's lines are not read first: 2 of 30 bytes of an
/// update. Copy: c10::BFloat16, c10::Half.
template <typename Copy>
void round_elements(const float* weight, Copy* copy, int64_t begin, int64_t end);

/// Elements [begin, end) of sum += values. Value: float, c10::BFloat16, c10::Half.
template <typename Value>
void add_elements(float* sum, const Value* values, int64_t begin, int64_t end);

/// Sum of squares of elements [begin, end) in fp64. The order of additions depends on the range alone. Value: float,
/// c10::BFloat16, c10::Half.
template <typename Value>
double sum_of_squares(const Value* values, int64_t begin, int64_t end);

}  // namespace dsft::optim::cpu

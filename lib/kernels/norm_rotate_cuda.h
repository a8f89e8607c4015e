#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

/// Heads [tokens * heads, 2 half] whose tokens share their angles.
struct HeadRows {
  int64_t tokens, heads, half;
};

/// Whether heads of this size have a kernel.
bool has_norm_rotate(int64_t head_dim);

/// y = rotate(weight * x / rms(x)), cos and sin fp32 [tokens, half].
void norm_rotate(const void* x, const void* weight, const float* cos, const float* sin, float eps, void* y,
                 HeadRows rows, FloatType type, Stream stream);

/// Rows of the partial sums that norm_rotate_backward writes.
int64_t norm_rotate_num_parts();

/// The gradient of x; where `weight_parts` [norm_rotate_num_parts(), 2 half] is not null, also partial sums of the
/// weight's, fp32.
void norm_rotate_backward(const void* gradient, const void* x, const void* weight, const float* cos, const float* sin,
                          float eps, void* x_gradient, float* weight_parts, HeadRows rows, FloatType type,
                          Stream stream);

}  // namespace dsft::kernels::cuda

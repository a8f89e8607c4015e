#pragma once

#include <cstdint>

namespace dsft::kernels::cpu {

/// Rows [begin, end) of y = weight * round(x * inverse_rms); writes inverse_rms [rows]. T: float, c10::BFloat16,
/// c10::Half.
template <typename T>
void rms_norm_rows(const T* x, const T* weight, T* y, float* inverse_rms, int64_t begin, int64_t end, int64_t size,
                   float eps);

/// Rows [begin, end) of the gradient of x; adds this range's part of the weight's gradient to weight_gradient [size]
/// where it is not null.
template <typename T>
void rms_norm_backward_rows(const T* gradient, const T* x, const T* weight, const float* inverse_rms, T* x_gradient,
                            float* weight_gradient, int64_t begin, int64_t end, int64_t size);

}  // namespace dsft::kernels::cpu

#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels {

/// rotate(rms_norm(x, weight, eps), cos, sin) in one pass: what families with normalised queries and keys do to each
/// head. x [T, N, D], weight [D], cos and sin fp32 [T, D/2]. Keeps x alone for the backward pass. On a GPU with heads
/// of 64, 128 or 256 a kernel, which rounds once at its end; elsewhere the two operations.
at::Tensor norm_rotate(const at::Tensor& x, const at::Tensor& weight, double eps, const at::Tensor& cos,
                       const at::Tensor& sin);

}  // namespace dsft::kernels

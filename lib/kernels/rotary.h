#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels {

/// Rotates the two halves of each head: y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin (Su et al., "RoFormer", in the
/// half-split layout of Hugging Face models). x [T, N, D], cos and sin fp32 [T, D/2]. Differentiable in x.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

}  // namespace dsft::kernels

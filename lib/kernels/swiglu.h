#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels {

/// silu(gate) * up, elementwise: silu in fp32, rounded to the type before the product as the unfused layers do
/// (Shazeer, "GLU variants improve transformer", 2020). Backward recomputes silu, so that only gate and up are kept.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace dsft::kernels

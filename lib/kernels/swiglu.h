#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels {

/// silu(gate) * up for rows of gate and up beside one another: gate_up [T, 2 I] -> [T, I]. silu in fp32, rounded to the
/// type before the product as the unfused layers do (Shazeer, "GLU variants improve transformer", 2020). Backward
/// recomputes silu, so that only gate and up are kept, and puts their gradients in their place, but for a leaf's: what
/// else has saved gate_up for its own backward pass will be refused it.
at::Tensor swiglu(const at::Tensor& gate_up);

}  // namespace dsft::kernels

#pragma once

#include "nn/linear.h"

namespace dsft::nn {

/// y = x W^T + bias + scale * B(A(dropout(x))) as one node of the graph, for a frozen W. Keeps x, A(x) and nothing
/// else: the dropped input is drawn again in the backward pass. The low-rank product is added by its GEMM, without a
/// pass over y of its own. x [T, in]; `dropout`: null where it is off.
at::Tensor lora_linear(const at::Tensor& x, const WeightStorage& weight, const at::Tensor& bias,
                       const LoraAdapter& adapter, const kernels::DropoutKeys* dropout);

}  // namespace dsft::nn

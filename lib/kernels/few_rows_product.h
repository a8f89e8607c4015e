#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels {

/// Products of a decoding step, whose time is the way of the weights from memory; in 16 bits with sums in fp32, without
/// gradients. A row's result does not depend on the other rows. Undefined where other products are as good: with many
/// rows, in fp32, off the GPU and on GPUs before 9.0. The weights are read before earlier kernels are complete: they
/// must be constants in the sense of kernels/dependent_launch.cuh.

/// x W^T + bias: x [T, in], W [out, in], bias [out] or undefined -> [T, out].
at::Tensor multiply_few_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

/// swiglu(x W^T): W [2 I, in] -> [T, I].
at::Tensor multiply_few_rows_gated(const at::Tensor& x, const at::Tensor& weight);

}  // namespace dsft::kernels

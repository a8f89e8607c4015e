#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels {

/// x W^T + bias in which a row's result is a function of that row alone: the sum over `in` is taken in one order,
/// however many rows stand beside it and however many threads there are. (The sums of a BLAS follow its choice of
/// kernel, which follows the number of rows.) x [T, in], W [out, in], bias [out] or undefined -> [T, out], without
/// gradient. In fp32 on the CPU by a kernel of its own; elsewhere as products of one number of rows, the last one
/// filled up, for which a BLAS chooses one kernel.
at::Tensor multiply_each_row(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

/// Whether such tensors (type and device) have a kernel for it, with which it costs about what a BLAS does.
bool has_row_products(const at::TensorOptions& options);

}  // namespace dsft::kernels

#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels::cuda {

/// y[i] = x[i] W^T for each of n matrices: dense x [n, rows, in], W [out, in] and y [n, rows, out], of one type (fp32
/// or 16 bits), beginning at addresses of 16 bytes. All by the one algorithm that cuBLASLt names first for a single
/// product of these sizes, without parts of `in` that are added up later: each has the bits of a call of its own.
void equal_products(const at::Tensor& x, const at::Tensor& weight, at::Tensor y);

}  // namespace dsft::kernels::cuda

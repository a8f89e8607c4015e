#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels {

/// The product of two matrices of one type in fp32 (of float64 in float64). On a GPU the sums of 16-bit products are
/// written as they are; elsewhere they are rounded to 16 bits first.
at::Tensor multiply_to_float(const at::Tensor& a, const at::Tensor& b);

/// sum += scale * a b, for a sum of the type that multiply_to_float gives; without a pass over the sum of its own
/// where a and b have its type or are on a GPU.
void add_product(at::Tensor sum, const at::Tensor& a, const at::Tensor& b, double scale = 1.0);

/// The same into a tensor that holds anything: it becomes scale * a b.
void write_product(at::Tensor product, const at::Tensor& a, const at::Tensor& b, double scale = 1.0);

/// x W^T as a sum that is yet to be made: parts [P, T, out] in fp32, of x [T, in] and W [out, in]; what adds them up
/// reads them anyway. Few rows would leave most of a GPU idle otherwise. Undefined where a plain product is as good:
/// with many rows, and off the GPU.
at::Tensor multiply_in_parts(const at::Tensor& x, const at::Tensor& weight);

}  // namespace dsft::kernels

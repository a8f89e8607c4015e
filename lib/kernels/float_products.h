#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels {

/// The product of two matrices of one type in fp32 (of float64 in float64). On a GPU the sums of 16-bit products are
/// written as they are; elsewhere they are rounded to 16 bits first.
at::Tensor multiply_to_float(const at::Tensor& a, const at::Tensor& b);

/// sum += scale * a b, for a sum of the type that multiply_to_float gives; without a pass over the sum of its own
/// where a and b have its type or are on a GPU.
void add_product(at::Tensor sum, const at::Tensor& a, const at::Tensor& b, double scale = 1.0);

}  // namespace dsft::kernels

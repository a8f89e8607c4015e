#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels {

/// The product of two matrices of one type in fp32 (of float64 in float64). On a GPU the sums of 16-bit products are
/// written as they are; elsewhere they are rounded to 16 bits first.
at::Tensor multiply_to_float(const at::Tensor& a, const at::Tensor& b);

}  // namespace dsft::kernels

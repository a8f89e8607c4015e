#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::nn {

/// For the backward pass of a node: adds scale * a b to the gradient of a trained leaf [rows of a, columns of b]. Where
/// the leaf has a .grad already (an optimizer keeps the sum of its micro-batches there, in fp32 also for a 16-bit leaf)
/// the product is added to it as it is computed, and the result is undefined: nothing is left for autograd to add. Else
/// the result is the product, of the leaf's type.
at::Tensor add_to_gradient(const at::Tensor& leaf, const at::Tensor& a, const at::Tensor& b, double scale = 1.0);

}  // namespace dsft::nn

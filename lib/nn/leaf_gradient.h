#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::nn {

/// For the backward pass of a node: adds scale * a b to the gradient of a trained leaf [rows of a, columns of b]. Where
/// the leaf has a .grad already (an optimizer keeps the sum of its micro-batches there, in fp32 also for a 16-bit leaf)
/// the product is added to it as it is computed, and where a place was offered for one it is written there: the result
/// is undefined then, for nothing is left for autograd to add. Else the result is the product, of the leaf's type.
at::Tensor add_to_gradient(const at::Tensor& leaf, const at::Tensor& a, const at::Tensor& b, double scale = 1.0);

/// Offers a place for the gradient of a trained leaf: a tensor of the leaf's shape, in fp32, which holds anything. A
/// node that makes the gradient while there is no .grad accepts it and writes all of it, where it would have to add to
/// zeros otherwise; a gradient that comes by autograd leaves it as it is. One that is not accepted has to be withdrawn.
void offer_gradient(const at::Tensor& leaf, const at::Tensor& place);

/// The offered place; undefined where none is offered or the leaf has a .grad.
at::Tensor offered_gradient(const at::Tensor& leaf);

/// The same, which is the leaf's .grad from now on and is to be written whole by the caller.
at::Tensor accept_offered_gradient(const at::Tensor& leaf);

/// Takes an offer back; whether there was one that nobody had accepted.
bool withdraw_offered_gradient(const at::Tensor& leaf);

}  // namespace dsft::nn

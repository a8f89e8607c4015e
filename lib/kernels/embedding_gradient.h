#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::kernels {

/// The gradient of a table of vectors that were looked up: adds gradient [T, H] (any float type) to the rows ids [T]
/// (int64) of `sum` [V, H], contiguous, fp32 (fp64 on the CPU). The vectors of one id are added up in their order
/// before its row is touched: the same numbers in every run, and only rows that were looked up are touched.
void add_embedding_gradient(at::Tensor sum, const at::Tensor& ids, const at::Tensor& gradient);

}  // namespace dsft::kernels

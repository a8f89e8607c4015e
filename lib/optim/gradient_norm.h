#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::optim {

/// The sum of squares of a contiguous fp32 tensor, in fp64, as a 0-d tensor on its device. On a GPU `values` start at a
/// multiple of 16 bytes. The order of additions does not depend on the number of threads: equal tensors give equal
/// bits.
at::Tensor sum_of_squares(const at::Tensor& values);

/// The same of a CPU tensor that may be bf16 or fp16, as a number.
double sum_of_squares_on_host(const at::Tensor& values);

/// sum += values on the CPU: contiguous, of equal length, the sum in fp32, the values in fp32, bf16 or fp16.
void add_on_host(at::Tensor& sum, const at::Tensor& values);

/// What torch.nn.utils.clip_grad_norm_ multiplies gradients by: min(1, max_norm / (norm + 1e-6)); 1 where max_norm <=
/// 0. `norm` is a 0-d fp64 tensor; so is the result.
at::Tensor clip_factor(const at::Tensor& norm, double max_norm);

}  // namespace dsft::optim

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/counter_dropout.h"

namespace dsft::kernels {

/// An adapter's rows of a group's A [sum of r, in], and how its input is dropped.
struct DroppedRows {
  int64_t first_rank = 0, rank = 0;
  double p = 0;
  uint64_t module = 0;  ///< as counter_dropout takes it
};

/// Low-rank products of inputs x [T, in] that are dropped by counter_dropout, of each adapter by a mask of its own; the
/// rows of the adapters cover A in order. On a GPU, in 16 bits and with ranks that are multiples of eight up to 128,
/// masks are drawn inside the products: nothing dropped goes through memory. The quotient by the probability to be kept
/// is taken of the sums then, in fp32.

/// A(dropout(x)) -> [T, sum of r], of x's type, as a is.
at::Tensor multiply_dropped(const at::Tensor& x, const at::Tensor& a, const std::vector<DroppedRows>& adapters,
                            const DropoutKeys& keys);

/// Its backward pass, for d_low [T, sum of r]: adds the sum of dropout(d_low A) over the adapters to dx, where that is
/// defined, and returns d_low^T dropout(x), [sum of r, in] in the type that multiply_to_float gives, where x is.
at::Tensor multiply_dropped_backward(at::Tensor dx, const at::Tensor& d_low, const at::Tensor& x, const at::Tensor& a,
                                     const std::vector<DroppedRows>& adapters, const DropoutKeys& keys);

}  // namespace dsft::kernels

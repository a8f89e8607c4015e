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
/// rows of the adapters cover A in order. On a GPU from 8.0 on, in 16 bits, masks are drawn inside the products, so
/// that nothing dropped goes through memory; there the sums are divided by the probability to be kept, in fp32, and
/// what is dropped is 0 even where x is not finite. That takes features in multiples of 32 and up to eight adapters,
/// each of whose ranks is a multiple of eight up to 128; other groups go by counter_dropout as a whole.

/// A(dropout(x)) -> [T, sum of r]. a has x's type.
at::Tensor multiply_dropped(const at::Tensor& x, const at::Tensor& a, const std::vector<DroppedRows>& adapters,
                            const DropoutKeys& keys);

/// Its backward pass, for d_low [T, sum of r]: adds the sum of dropout(d_low A) over the adapters to dx, where that is
/// defined, and returns d_low^T dropout(x), [sum of r, in] in the type that multiply_to_float gives, where x is.
at::Tensor multiply_dropped_backward(at::Tensor dx, const at::Tensor& d_low, const at::Tensor& x, const at::Tensor& a,
                                     const std::vector<DroppedRows>& adapters, const DropoutKeys& keys);

}  // namespace dsft::kernels

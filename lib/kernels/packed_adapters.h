#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace dsft::kernels {

/// The low-rank update of some columns of a product: scale * b a for a [r, in] and b [width, r], both fp32.
struct AdapterOfColumns {
  at::Tensor a, b;
  double scale = 1;
  int64_t first = 0;       ///< its first column of the product
  int64_t first_rank = 0;  ///< its first row of the packed a
};

/// All of them as one pair of matrices: of x, every update is (x a^T) b^T.
struct PackedAdapters {
  at::Tensor a;  ///< [sum of r, in]
  at::Tensor b;  ///< [columns of the product, sum of r]: scale * b of each in its columns and ranks, zero elsewhere
};

/// Whether pack_adapters has a kernel for products of this tensor: in 16 bits on a GPU, where one wide product costs
/// less than several narrow ones although most of b is zero.
bool packs_adapters(const at::Tensor& x, size_t num_adapters);

/// Packs up to eight adapters in the type of `x`.
PackedAdapters pack_adapters(const std::vector<AdapterOfColumns>& adapters, int64_t columns, const at::Tensor& x);

/// Adds fp32 gradients of the packed pair to the adapters' own by one kernel: `sums` are the adapters with contiguous
/// gradients in the places of a and b. Each a gets its rows of packed.a, each b scale * its block of packed.b, whose
/// other blocks are not read. Where packed.a or packed.b is undefined, those of every adapter stay as they are.
void add_unpacked_gradients(const PackedAdapters& packed, const std::vector<AdapterOfColumns>& sums);

}  // namespace dsft::kernels

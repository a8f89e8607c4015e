#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

constexpr int kMostPackedAdapters = 8;

/// As AdapterOfColumns: a [rank, in] and b [width, rank].
template <typename Element>
struct AdapterPointers {
  Element *a, *b;
  float scale;
  int64_t first, width, first_rank, rank;
};

struct PackedAdapterPointers {
  AdapterPointers<const float> adapters[kMostPackedAdapters];
  int num_adapters;
  int64_t in, columns, ranks;
  void *a, *b;  ///< [ranks, in] and [columns, ranks]
};

struct PackedGradientPointers {
  AdapterPointers<float> sums[kMostPackedAdapters];
  int num_adapters;
  int64_t in, ranks;
  const float *a, *b;  ///< [ranks, in] and [columns, ranks]; null: nothing to add
};

void pack_adapters(const PackedAdapterPointers& packed, FloatType type, Stream stream);
void add_unpacked_gradients(const PackedGradientPointers& gradients, Stream stream);

}  // namespace dsft::kernels::cuda

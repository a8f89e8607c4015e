#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

constexpr int kMostPackedAdapters = 8;

/// As AdapterOfColumns: a [rank, in] and b [width, rank].
struct AdapterPointers {
  const float *a, *b;
  float scale;
  int64_t first, width, first_rank, rank;
};

struct PackedAdapterPointers {
  AdapterPointers adapters[kMostPackedAdapters];
  int num_adapters;
  int64_t in, columns, ranks;
  void *a, *b;  ///< [ranks, in] and [columns, ranks]
};

void pack_adapters(const PackedAdapterPointers& packed, FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda

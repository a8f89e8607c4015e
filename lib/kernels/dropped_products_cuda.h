#pragma once

#include <cstdint>

#include "kernels/counter_dropout_cpu.h"
#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

constexpr int kMostDroppedAdapters = 8;

/// What the products share: x [tokens, in] or dx, d_low [tokens, ranks], a [ranks, in], in one type of 16 bits.
struct DroppedProducts {
  struct Adapter {
    int first_rank, rank;
    cpu::DropoutStream random;
  };
  Adapter adapters[kMostDroppedAdapters];
  int num_adapters, in, ranks;
  int64_t tokens;
  const int64_t *samples, *positions;  ///< of each token
};

/// Whether there are kernels for these; rows start at multiples of 16 bytes.
bool has_dropped_products(const DroppedProducts& products, FloatType type);

void multiply_dropped(const DroppedProducts& products, const void* x, const void* a, void* low, FloatType type,
                      Stream stream);
void add_dropped(const DroppedProducts& products, const void* d_low, const void* a, void* dx, FloatType type,
                 Stream stream);

/// Into how many parts multiply_by_dropped splits the tokens.
int64_t multiply_by_dropped_num_parts(const DroppedProducts& products);
/// da [ranks, in] in fp32; parts [num_parts, ranks, in] in fp32, not read where there is one part.
void multiply_by_dropped(const DroppedProducts& products, const void* d_low, const void* x, float* parts, float* da,
                         FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda

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

/// Operands and results of the backward pass.
struct DroppedGradients {
  const void *d_low, *x, *a;  ///< x: null without da
  void* dx;                   ///< added to; null: not wanted
  float* parts;               ///< [num_parts, ranks, in], to work in; not read where there is one part
  float* da;                  ///< [ranks, in]; null: not wanted
};
/// Into how many parts the tokens are split for da.
int64_t multiply_dropped_backward_num_parts(const DroppedProducts& products);
void multiply_dropped_backward(const DroppedProducts& products, const DroppedGradients& gradients, FloatType type,
                               Stream stream);

}  // namespace dsft::kernels::cuda

#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

/// Shapes of a decoding step: q [sequences, kv_heads * group, head_dim], k and v [sequences, kv_heads, head_dim],
/// caches [slots, kv_heads, capacity, head_dim].
struct DecodeShape {
  int64_t sequences, kv_heads, group, head_dim, capacity;
  int64_t window;  ///< 0: all tokens are seen
  float scale;
};

/// Whether shapes like these have a kernel.
bool has_decode_attention(const DecodeShape& shape);

/// Writes each sequence's new key and value into its slot at lengths[s] - 1 and attends to the slot's first lengths[s]
/// tokens, or the last `window` of them. slots and lengths int64 [sequences] on the device.
void decode_attention(const void* q, const void* k, const void* v, void* k_cache, void* v_cache, const int64_t* slots,
                      const int64_t* lengths, void* out, const DecodeShape& shape, FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda

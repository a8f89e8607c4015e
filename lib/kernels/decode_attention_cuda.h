#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

/// Shapes of a decoding step: q [sequences, kv_heads * group, head_dim], k and v [sequences, kv_heads, head_dim],
/// caches [pages, kv_heads, page_tokens, head_dim].
struct DecodeShape {
  int64_t sequences, kv_heads, group, head_dim, page_tokens, pages_per_sequence;
  int64_t window;  ///< 0: all tokens are seen
  float scale;
};

/// Device pointers, dense but for v, whose rows lie v_stride elements apart. pages [sequences, pages_per_sequence],
/// lengths [sequences].
struct DecodeTensors {
  const void *q, *k, *v;
  void *k_cache, *v_cache;
  const int32_t* pages;
  const int64_t* lengths;
  void* out;
  float* parts;  ///< [num_splits, sequences, heads, head_dim + 2] where num_splits > 1
  int64_t num_splits, v_stride;
};

/// Whether shapes like these have a kernel.
bool has_decode_attention(const DecodeShape& shape);

/// Into how many parts each sequence is best cut, so that few sequences fill the GPU too.
int64_t decode_attention_splits(const DecodeShape& shape);

/// Writes each sequence's new key and value to its last place and attends to its tokens, or the last `window` of them.
void decode_attention(const DecodeTensors& tensors, const DecodeShape& shape, FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda

#pragma once

#include <cstdint>

namespace dsft::kernels::cpu {

/// Sizes of one decoding step's attention.
struct DecodeAttentionShape {
  int64_t num_sequences;  ///< S
  int64_t num_kv_heads;   ///< K
  int64_t group_size;     ///< query heads of a kv head
  int64_t head_dim;
  int64_t page_tokens;
  int64_t pages_per_sequence;  ///< P
  int64_t window;              ///< 0: a token sees all before it
  float scale;
};

/// q and out [S, K, G, D], k and v [S, K, D], caches [pages, K, page_tokens, D], pages [S, P], lengths [S], all dense.
template <typename T>
struct DecodeAttentionTensors {
  const T *q, *k, *v;
  T *k_cache, *v_cache;
  const int32_t* pages;
  const int64_t* lengths;
  T* out;
};

/// Floats that decode_attention_items needs as scratch memory.
int64_t decode_attention_scratch(const DecodeAttentionShape& shape);

/// Appends and attends (append_and_attend) for the pairs (sequence, kv head) [begin, end) in row-major order.
template <typename T>
void decode_attention_items(const DecodeAttentionShape& shape, const DecodeAttentionTensors<T>& tensors, float* scratch,
                            int64_t begin, int64_t end);

}  // namespace dsft::kernels::cpu

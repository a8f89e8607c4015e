#pragma once

#include <cstdint>

namespace dsft::kernels::cpu {

/// Sizes of one decoding step's attention.
struct DecodeAttentionShape {
  int64_t num_kv_heads;
  int64_t group_size;  ///< query heads of a kv head
  int64_t head_dim;
  int64_t capacity;  ///< tokens that a slot of the cache holds
  int64_t window;    ///< 0: a token sees all before it
  float scale;
};

/// Floats that decode_attention_items needs as scratch memory for sequences of at most `length` tokens.
int64_t decode_attention_scratch(const DecodeAttentionShape& shape, int64_t length);

/// Attention of one new token a sequence, for the pairs (sequence, kv head) [begin, end) in row-major order. q and out
/// [S, K, G, D] dense, caches [slots, K, capacity, D]; sequence s reads the first lengths[s] tokens of slot slots[s].
template <typename T>
void decode_attention_items(const DecodeAttentionShape& shape, const T* q, const T* k_cache, const T* v_cache,
                            const int64_t* slots, const int64_t* lengths, T* out, float* scratch, int64_t begin,
                            int64_t end);

}  // namespace dsft::kernels::cpu

#include "kernels/decode_attention_cpu.h"

#include <algorithm>
#include <limits>

#include "kernels/fast_exp.h"
#include "kernels/vector_loops.h"

namespace dsft::kernels::cpu {
namespace {

template <typename T>
[[gnu::always_inline]] inline float dot(const float* a, const T* b, int64_t size) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) sum += a[i] * static_cast<float>(b[i]);
  return sum;
}

// Turns scores into e^(score - maximum) and gives the reciprocal of their sum.
[[gnu::always_inline]] inline float exponentiate(float* scores, int64_t size) {
  float maximum = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : maximum)
  for (int64_t i = 0; i < size; ++i) maximum = scores[i] > maximum ? scores[i] : maximum;
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) {
    const float value = fast_exp(scores[i] - maximum);
    scores[i] = value;
    sum += value;
  }
  return 1.0f / sum;
}

// One sequence and kv head of a paged cache.
template <typename T>
struct Pages {
  T* cache;
  const int32_t* pages;
  int64_t page_tokens, page_stride, head_offset, head_dim;

  T* at(int64_t token) const {
    return cache + pages[token / page_tokens] * page_stride + head_offset + token % page_tokens * head_dim;
  }
};

// Each key and value row is read once for all query heads of the group.
template <typename T>
[[gnu::always_inline]] inline void attend(const DecodeAttentionShape& shape, const T* q, const Pages<T>& keys,
                                          const Pages<T>& values, int64_t first, int64_t length, T* out,
                                          float* scratch) {
  const int64_t size = shape.head_dim, group = shape.group_size;
  float* queries = scratch;              // [G, D]
  float* sums = scratch + group * size;  // [G, D]
  float* scores = sums + group * size;   // [G, length]
  for (int64_t i = 0; i < group * size; ++i) {
    queries[i] = static_cast<float>(q[i]) * shape.scale;
    sums[i] = 0.0f;
  }
  for (int64_t t = 0; t < length; ++t) {
    const T* key = keys.at(first + t);
    for (int64_t g = 0; g < group; ++g) scores[g * length + t] = dot(queries + g * size, key, size);
  }
  for (int64_t g = 0; g < group; ++g) {
    const float inverse = exponentiate(scores + g * length, length);
    for (int64_t t = 0; t < length; ++t) scores[g * length + t] *= inverse;
  }
  for (int64_t t = 0; t < length; ++t) {
    const T* value = values.at(first + t);
    for (int64_t g = 0; g < group; ++g) {
      const float weight = scores[g * length + t];
      float* sum = sums + g * size;
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) sum[i] += weight * static_cast<float>(value[i]);
    }
  }
  for (int64_t i = 0; i < group * size; ++i) out[i] = static_cast<T>(sums[i]);
}

template <typename T>
[[gnu::always_inline]] inline void items(const DecodeAttentionShape& shape, const DecodeAttentionTensors<T>& tensors,
                                         float* scratch, int64_t begin, int64_t end) {
  const int64_t row = shape.group_size * shape.head_dim, head_size = shape.page_tokens * shape.head_dim;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t sequence = item / shape.num_kv_heads, head = item % shape.num_kv_heads;
    const int64_t end_token = tensors.lengths[sequence];
    const int64_t length = shape.window > 0 ? std::min(shape.window, end_token) : end_token;
    const auto pages_of = [&](T* cache) {
      return Pages<T>{cache,
                      tensors.pages + sequence * shape.pages_per_sequence,
                      shape.page_tokens,
                      shape.num_kv_heads * head_size,
                      head * head_size,
                      shape.head_dim};
    };
    const Pages<T> keys = pages_of(tensors.k_cache), values = pages_of(tensors.v_cache);
    std::copy_n(tensors.k + item * shape.head_dim, shape.head_dim, keys.at(end_token - 1));
    std::copy_n(tensors.v + item * shape.head_dim, shape.head_dim, values.at(end_token - 1));
    attend(shape, tensors.q + item * row, keys, values, end_token - length, length, tensors.out + item * row, scratch);
  }
}

}  // namespace

int64_t decode_attention_scratch(const DecodeAttentionShape& shape) {
  return shape.group_size * (2 * shape.head_dim + shape.page_tokens * shape.pages_per_sequence);
}

#define DSFT_DECODE_ATTENTION_OF(T)                                                                           \
  template <>                                                                                                 \
  DSFT_VECTOR_CLONES void decode_attention_items<T>(const DecodeAttentionShape& shape,                        \
                                                    const DecodeAttentionTensors<T>& tensors, float* scratch, \
                                                    int64_t begin, int64_t end) {                             \
    items(shape, tensors, scratch, begin, end);                                                               \
  }
DSFT_DECODE_ATTENTION_OF(float)
DSFT_DECODE_ATTENTION_OF(c10::BFloat16)
DSFT_DECODE_ATTENTION_OF(c10::Half)

}  // namespace dsft::kernels::cpu

#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"
#include "kernels/decode_attention_cpu.h"
#include "kernels/rotate_heads_cuda.h"

namespace dsft::kernels::cuda {

/// As cpu::DecodeAttentionTensors, on the device; the rows of q, k and v lie apart by strides in elements.
struct DecodeTensors {
  const void *q, *k, *v;
  int64_t q_stride, k_stride, v_stride;
  HeadFactors factors;  ///< by which q and k are yet to be normalised and turned (16 bits only); cos null: they are
  void *k_cache, *v_cache;
  const int32_t* pages;
  const int64_t* lengths;
  void* out;
  float* parts;  ///< [num_splits, S, K * group_size, head_dim + 2] where num_splits > 1
  int64_t num_splits;
};

/// Whether shapes like these have a kernel.
bool has_decode_attention(const cpu::DecodeAttentionShape& shape);

/// Into how many parts each sequence is best cut, so that few sequences fill the GPU too.
int64_t decode_attention_splits(const cpu::DecodeAttentionShape& shape);

/// Writes each sequence's new key and value to its last place and attends to its tokens, or the last `window` of them.
void decode_attention(const DecodeTensors& tensors, const cpu::DecodeAttentionShape& shape, FloatType type,
                      Stream stream);

/// Rows [tokens, kv_heads, head_dim], row_stride elements apart, go to places offsets[t] of pages pages[t]; head_dim
/// a multiple of 8.
struct AppendedRows {
  const void* rows;
  int64_t row_stride;
  void* cache;
  const int64_t *pages, *offsets;
  int64_t tokens, kv_heads, head_dim;
};
void append_rows(const AppendedRows& appended, FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda

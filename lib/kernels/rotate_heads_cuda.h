#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

/// Heads of packed projections: a token's row holds q_heads query heads, then kv_heads key heads and as many of values,
/// of 2 half elements each; rows lie token_stride elements apart.
struct PackedRows {
  int64_t tokens, q_heads, kv_heads, half, token_stride;
};

/// Weights [2 half] of the heads' RMSNorm, both null where there is none, and angles fp32 [tokens, half].
struct HeadFactors {
  const void *q_weight, *k_weight;
  const float *cos, *sin;
  float eps;
};

/// Whether heads of this size have a kernel.
bool has_rotate_heads(int64_t head_dim);

/// q [tokens, q_heads, 2 half] and k [tokens, kv_heads, 2 half], dense: rotate(weight * head / rms(head)).
void rotate_heads(const void* packed, const HeadFactors& factors, void* q, void* k, const PackedRows& rows,
                  FloatType type, Stream stream);

/// Partial sums of each weight's gradient that rotate_heads_backward writes.
int64_t rotate_heads_num_parts();

/// The gradient of the packed heads, from dense ones of q, k and v; where `weight_parts` [2, rotate_heads_num_parts(),
/// 2 half] is not null, also partial sums of those of q_weight and k_weight, fp32.
void rotate_heads_backward(const void* q_gradient, const void* k_gradient, const void* v_gradient, const void* packed,
                           const HeadFactors& factors, void* packed_gradient, float* weight_parts,
                           const PackedRows& rows, FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda

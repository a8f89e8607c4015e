#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/varlen_attention.h"

namespace dsft::kernels {

/// A row of packed projections: N query heads, K key heads, K value heads, of D elements each.
struct PackedHeads {
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t width() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
};

/// RMSNorm of each head of q and k: weights [D], undefined where a family has none.
struct HeadNorms {
  at::Tensor q, k;
  double eps = 0;
};

/// fp32 [T, D/2].
struct RotaryAngles {
  at::Tensor cos, sin;
};

/// What attention reads.
struct Heads {
  at::Tensor q;     ///< [T, N, D]
  at::Tensor k, v;  ///< [T, K, D]; v is a view of the packed rows
};

/// The heads of packed projections qkv [T, (N + 2 K) D], with q and k normalised and rotated. On a GPU, without
/// gradients and for heads of 64, 128 or 256 one kernel, which rounds once at its end; else rms_norm and rotate.
Heads rotate_heads(const at::Tensor& qkv, const PackedHeads& heads, const HeadNorms& norms, const RotaryAngles& angles);

/// varlen_attention of those heads, [T, N D]. Where kernels do both it is one node that keeps qkv and the result alone
/// and turns q and k again in the backward pass.
at::Tensor rotary_attention(const at::Tensor& qkv, const PackedHeads& heads, const HeadNorms& norms,
                            const RotaryAngles& angles, const Documents& documents, double scale, int64_t window = 0);

/// Makes what rotary_attention of such projections and documents takes time to make, cuDNN's plans; may run on a thread
/// of its own.
void prepare_rotary_attention(const at::TensorOptions& options, const PackedHeads& heads, const Documents& documents,
                              double scale, int64_t window = 0);

}  // namespace dsft::kernels

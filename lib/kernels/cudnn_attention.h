#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "kernels/varlen_attention.h"

/// Attention over packed documents by cuDNN's graph API; no_cuda.cpp answers where the build has no CUDA.
namespace dsft::kernels::cudnn {

/// Whether cuDNN is tried for such queries: 16 bits, heads of a multiple of 8 up to 128, a Hopper or Blackwell GPU of
/// a server (9.x, 10.x), and no deterministic run.
bool may_take(const at::TensorOptions& options, int64_t head_dim);

/// What a plan depends on beside the documents.
struct Shape {
  int64_t heads, kv_heads, head_dim;
  int64_t value_stride;  ///< elements between the rows of v
  double scale;
  int64_t window;
};

/// Builds and keeps the plans of both passes for attention to documents like these; may run on a thread of its own.
void prepare(const at::TensorOptions& options, const Shape& shape, const Documents& documents);
/// Plans that this process has built, and shapes for which there is none; for tests.
int64_t num_plans();

/// What the forward pass gives.
struct Attended {
  at::Tensor out;         ///< [T, N, D]
  at::Tensor statistics;  ///< log-sum-exps, fp32 [T, N], for the backward pass
};

/// Dense q [T, N, D] and k [T, K, D], v [T, K, D] whose rows may lie apart. Builds a plan for a new shape (50-80 ms,
/// the first of a process about a second) and keeps it; plans depend on the number of documents, their longest and T
/// only by buckets. nullopt where cuDNN has no plan for the shape.
std::optional<Attended> forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const Documents& documents, double scale, int64_t window);

/// Dense gradients.
struct AttentionGradients {
  at::Tensor q, k, v;
};
/// nullopt where cuDNN has no plan for the shape.
std::optional<AttentionGradients> backward(const at::Tensor& gradient, const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, const Attended& attended, const Documents& documents,
                                           double scale, int64_t window);

}  // namespace dsft::kernels::cudnn

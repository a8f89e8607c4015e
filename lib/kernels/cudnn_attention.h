#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "kernels/varlen_attention.h"

/// Attention over packed documents by cuDNN's graph API; no_cuda.cpp answers where the build has no CUDA.
namespace dsft::kernels::cudnn {

/// Whether cuDNN is tried for these queries: 16 bits, heads of a multiple of 8 up to 128, a Hopper or Blackwell GPU of
/// a server (9.x, 10.x), and no deterministic run.
bool may_take(const at::Tensor& q);

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

struct QueryKeyGradients {
  at::Tensor q, k;
};
/// Writes v's gradient to `v_gradient`, which has v's strides. nullopt where cuDNN has no plan for the shape.
std::optional<QueryKeyGradients> backward(const at::Tensor& gradient, const at::Tensor& q, const at::Tensor& k,
                                          const at::Tensor& v, const Attended& attended, const Documents& documents,
                                          double scale, int64_t window, at::Tensor& v_gradient);

}  // namespace dsft::kernels::cudnn

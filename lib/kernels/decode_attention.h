#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dsft::kernels {

/// Tokens of a page of a paged cache [pages, K, kPageTokens, D] of keys or values.
constexpr int64_t kPageTokens = 64;

/// Sequences in a paged cache: token t of sequence s stands at place t % kPageTokens of page pages[s][t / kPageTokens]
/// (Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", 2023).
struct PagedSequences {
  at::Tensor pages;    ///< int32 [S, P]; entries behind a sequence's last page are not read
  at::Tensor lengths;  ///< int64 [S]: its tokens, the new one included
};

/// One new token a sequence: writes its key and value k, v [S, K, D] to the place of its last token, then attends to
/// all its tokens, or to the last `window` of them where window > 0. q [S, N, D] with N a multiple of K; gives [S, N,
/// D]. Without gradient, and without asking the device for a number. Kernels on the CPU and, for heads of 64 and 128 in
/// groups of up to 8, on a GPU; elsewhere LibTorch's operations.
at::Tensor append_and_attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::Tensor& k_cache,
                             at::Tensor& v_cache, const PagedSequences& sequences, double scale, int64_t window = 0);

/// The same by LibTorch's operations on any device.
at::Tensor append_and_attend_reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                       at::Tensor& k_cache, at::Tensor& v_cache, const PagedSequences& sequences,
                                       double scale, int64_t window = 0);

/// Writes keys or values [T, K, D] of whole prompts: token t goes to place offsets[t] of page pages[t], both int64 [T].
void append_rows(const at::Tensor& rows, at::Tensor& cache, const at::Tensor& pages, const at::Tensor& offsets);

}  // namespace dsft::kernels

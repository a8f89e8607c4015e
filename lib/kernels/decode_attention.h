#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/rotary_attention.h"

namespace dsft::kernels {

/// Tokens of a page of a paged cache [pages, K, kPageTokens, D] of keys or values.
constexpr int64_t kPageTokens = 64;

/// Sequences in a paged cache: token t of sequence s stands at place t % kPageTokens of page pages[s][t / kPageTokens]
/// (Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", 2023).
struct PagedSequences {
  at::Tensor pages;           ///< int32 [S, P]; entries behind a sequence's last page are not read
  at::Tensor lengths;         ///< int64 [S]: its tokens, the new one included
  bool are_isolated = false;  ///< the result of one depends on no other to the bit: none is cut to fill a GPU
};

/// Where a layer's keys and values stand: [pages, K, kPageTokens, D] each, and the sequences in them.
struct PagedKeys {
  at::Tensor keys, values;
  PagedSequences sequences;
};

/// One new token a sequence: writes its key and value to the place of its last token, then attends to all its tokens,
/// or to the last `window` of them where window > 0. heads: q [S, N, D], k and v [S, K, D], N a multiple of K; gives
/// [S, N, D]. Without gradient, and without asking the device for a number. Kernels on the CPU and, for heads of 64 and
/// 128 in groups of up to 8, on a GPU; elsewhere LibTorch's operations.
at::Tensor append_and_attend(const Heads& heads, const PagedKeys& paged, double scale, int64_t window = 0);

/// rotate_heads of packed projections qkv [S, (N + 2 K) D], then append_and_attend; gives [S, N D]. One kernel for 16
/// bits on a GPU.
at::Tensor rotary_append_and_attend(const at::Tensor& qkv, const PackedHeads& heads, const HeadNorms& norms,
                                    const RotaryAngles& angles, const PagedKeys& paged, double scale,
                                    int64_t window = 0);

/// Whether such sequences can be isolated: a kernel takes tensors of this type and device with these heads.
bool isolates_sequences(const at::TensorOptions& options, const PackedHeads& heads);

/// append_and_attend by LibTorch's operations on any device.
at::Tensor append_and_attend_reference(const Heads& heads, const PagedKeys& paged, double scale, int64_t window = 0);

/// Writes keys or values [T, K, D] of whole prompts: token t goes to place offsets[t] of page pages[t], both int64 [T].
void append_rows(const at::Tensor& rows, at::Tensor& cache, const at::Tensor& pages, const at::Tensor& offsets);

}  // namespace dsft::kernels

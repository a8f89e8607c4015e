#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace dsft::kernels {

/// Attention of one new token a sequence to the keys and values in a cache that already holds the token's own.
/// q [S, N, D]; caches [slots, K, capacity, D] with N a multiple of K; sequence s reads the first lengths[s] tokens of
/// slot slots[s], or the last `window` of them where window > 0. Gives [S, N, D]. Without gradient. On the CPU a
/// kernel, elsewhere LibTorch's scaled_dot_product_attention.
at::Tensor decode_attention(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                            const std::vector<int64_t>& slots, const std::vector<int64_t>& lengths, double scale,
                            int64_t window = 0);

/// The same by LibTorch's operations on any device.
at::Tensor decode_attention_reference(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                                      const std::vector<int64_t>& slots, const std::vector<int64_t>& lengths,
                                      double scale, int64_t window = 0);

/// A decoding step on a GPU: writes the new keys and values k, v [S, K, D] into the slots at lengths[s] - 1, then
/// attends, in one pass. `slots` and `lengths` int64 [S] on the device, so that the host is not asked. Nothing, and
/// nothing written, where these shapes have no kernel.
std::optional<at::Tensor> append_and_attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                            at::Tensor& k_cache, at::Tensor& v_cache, const at::Tensor& slots,
                                            const at::Tensor& lengths, double scale, int64_t window);

}  // namespace dsft::kernels

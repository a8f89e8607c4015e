#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace dsft::kernels {

/// Documents laid end to end; some may be empty.
struct Documents {
  std::vector<int64_t> boundaries;                     ///< [S + 1] starts, then T
  int64_t longest = 0;                                 ///< tokens of the longest one, or more
  at::Tensor on_device;                                ///< int32 [S + 1]: the boundaries where a GPU reads them
  bool are_isolated = false;                           ///< the result of one depends on no other to the bit
  mutable std::shared_ptr<const void> of_kernel = {};  ///< what a kernel works out from them once a batch
};

/// The documents of these boundaries for tensors on `device`.
Documents make_documents(std::vector<int64_t> boundaries, at::Device device);

/// Causal attention inside each document. q [T, N, D], k and v [T, K, D] with N a multiple of K (each kv head serves
/// N/K query heads); gives [T, N, D]. `window` > 0: only the last so many tokens are seen. On a GPU in 16 bits
/// all documents at once by cuDNN, where it has no plan or documents are isolated by FlashAttention (Dao,
/// "FlashAttention-2", 2023); else
/// scaled_dot_product_attention document by document.
at::Tensor varlen_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Documents& documents,
                            double scale, int64_t window = 0);

/// Whether varlen_attention of such tensors (type and device) reads the documents from the device alone: not where it
/// goes document by document.
bool attends_by_device(const at::TensorOptions& options, int64_t head_dim);

/// The same document by document on any device: the readable form.
at::Tensor varlen_attention_by_documents(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                         const std::vector<int64_t>& boundaries, double scale, int64_t window = 0);

}  // namespace dsft::kernels

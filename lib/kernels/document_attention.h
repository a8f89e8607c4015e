#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/cudnn_attention.h"

/// Attention to all documents of a batch at once by a library's kernel, without autograd.
namespace dsft::kernels {

/// What the forward pass gives. FlashAttention's state is empty where cuDNN computed it.
struct AttendedDocuments {
  at::Tensor out;                       ///< [T, N, D]
  at::Tensor statistics;                ///< log-sum-exps, in the library's layout
  std::vector<at::Tensor> flash_state;  ///< what FlashAttention's backward pass wants back
};

/// As varlen_attention. q [T, N, D] and k [T, K, D] dense; v [T, K, D] with dense heads, whose rows may lie apart.
/// cuDNN where it has a plan, else FlashAttention; for tensors of which attends_by_device holds.
AttendedDocuments attend_documents(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const Documents& documents, double scale, int64_t window);

/// The gradients of q, k and v.
using cudnn::AttentionGradients;
AttentionGradients attend_documents_backward(const at::Tensor& gradient, const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const AttendedDocuments& attended,
                                             const Documents& documents, double scale, int64_t window);

}  // namespace dsft::kernels

#include "kernels/document_attention.h"

#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <torch/types.h>

#include "base/error.h"

namespace dsft::kernels {
namespace {

struct Window {
  std::optional<int64_t> left, right;
};

Window flash_window(int64_t window) {
  return window > 0 ? Window{window - 1, 0} : Window{};
}

AttendedDocuments by_flash(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Documents& documents,
                           double scale, int64_t window) {
  const Window bounds = flash_window(window);
  auto [out, log_sum_exp, rng_state, unused, debug_mask] = at::_flash_attention_forward(
      q, k, v, documents.on_device, documents.on_device, documents.longest, documents.longest, /*dropout_p=*/0.0,
      /*is_causal=*/true, /*return_debug_mask=*/false, scale, bounds.left, bounds.right);
  return {out, log_sum_exp, {rng_state, unused}};
}

}  // namespace

AttendedDocuments attend_documents(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const Documents& documents, double scale, int64_t window) {
  DSFT_CHECK(attends_by_device(q.options(), q.size(2)), "attention to all documents at once of ", q.sizes());
  const at::NoGradGuard no_grad;
  if (!documents.are_isolated && cudnn::may_take(q.options(), q.size(2))) {
    if (const auto attended = cudnn::forward(q, k, v, documents, scale, window))
      return {attended->out, attended->statistics, {}};
  }
  return by_flash(q, k, v, documents, scale, window);
}

AttentionGradients attend_documents_backward(const at::Tensor& gradient, const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const AttendedDocuments& attended,
                                             const Documents& documents, double scale, int64_t window) {
  if (attended.flash_state.empty()) {
    if (const auto result =
            cudnn::backward(gradient, q, k, v, {attended.out, attended.statistics}, documents, scale, window))
      return *result;
    // FlashAttention goes back only from a state of its own
    return attend_documents_backward(gradient, q, k, v, by_flash(q, k, v, documents, scale, window), documents, scale,
                                     window);
  }
  const Window bounds = flash_window(window);
  const auto [dq, dk, dv] = at::_flash_attention_backward(
      gradient, q, k, v, attended.out, attended.statistics, documents.on_device, documents.on_device, documents.longest,
      documents.longest, /*dropout_p=*/0.0, /*is_causal=*/true, attended.flash_state[0], attended.flash_state[1], scale,
      bounds.left, bounds.right);
  return {dq, dk, dv};
}

}  // namespace dsft::kernels

#include "kernels/rotary_attention.h"

#include <torch/autograd.h>
#include <torch/types.h>

#include "base/error.h"
#include "kernels/cuda_tensors.h"
#include "kernels/document_attention.h"
#include "kernels/rms_norm.h"
#include "kernels/rotary.h"
#include "kernels/rotate_heads_cuda.h"

namespace dsft::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

cuda::PackedRows rows_of(const at::Tensor& qkv, const PackedHeads& heads) {
  return {.tokens = qkv.size(0),
          .q_heads = heads.num_heads,
          .kv_heads = heads.num_kv_heads,
          .half = heads.head_dim / 2,
          .token_stride = qkv.stride(0)};
}

cuda::HeadFactors factors_of(const HeadNorms& norms, const RotaryAngles& angles) {
  return {.q_weight = norms.q.defined() ? norms.q.const_data_ptr() : nullptr,
          .k_weight = norms.k.defined() ? norms.k.const_data_ptr() : nullptr,
          .cos = angles.cos.const_data_ptr<float>(),
          .sin = angles.sin.const_data_ptr<float>(),
          .eps = static_cast<float>(norms.eps)};
}

at::Tensor values_of(const at::Tensor& qkv, const PackedHeads& heads) {
  const int64_t first = (heads.num_heads + heads.num_kv_heads) * heads.head_dim;
  return qkv.narrow(1, first, heads.num_kv_heads * heads.head_dim)
      .view({qkv.size(0), heads.num_kv_heads, heads.head_dim});
}

Heads by_kernel(const at::Tensor& qkv, const PackedHeads& heads, const HeadNorms& norms, const RotaryAngles& angles) {
  at::Tensor q = at::empty({qkv.size(0), heads.num_heads, heads.head_dim}, qkv.options());
  at::Tensor k = at::empty({qkv.size(0), heads.num_kv_heads, heads.head_dim}, qkv.options());
  cuda::rotate_heads(qkv.const_data_ptr(), factors_of(norms, angles), q.data_ptr(), k.data_ptr(), rows_of(qkv, heads),
                     cuda::float_type(qkv), cuda::stream_for(qkv));
  return {q, k, values_of(qkv, heads)};
}

Heads by_operations(const at::Tensor& qkv, const PackedHeads& heads, const HeadNorms& norms,
                    const RotaryAngles& angles) {
  const int64_t q_width = heads.num_heads * heads.head_dim, kv_width = heads.num_kv_heads * heads.head_dim;
  const auto parts = qkv.split_with_sizes({q_width, kv_width, kv_width}, 1);
  const auto turned = [&](const at::Tensor& part, const at::Tensor& weight) {
    const at::Tensor split = part.unflatten(1, {-1, heads.head_dim});
    return rotate(weight.defined() ? rms_norm(split, weight, norms.eps) : split, angles.cos, angles.sin);
  };
  return {turned(parts[0], norms.q), turned(parts[1], norms.k), parts[2].unflatten(1, {-1, heads.head_dim})};
}

bool has_kernel(const at::Tensor& qkv, const PackedHeads& heads) {
  return cuda::takes(qkv) && cuda::has_rotate_heads(heads.head_dim);
}

// The gradients go back to where q, k and v came from.
void turn_back(const AttentionGradients& gradients, const at::Tensor& qkv, const HeadNorms& norms,
               const RotaryAngles& angles, const cuda::PackedRows& rows, at::Tensor& qkv_gradient,
               const at::Tensor& weight_parts) {
  const at::Tensor dq = gradients.q.contiguous(), dk = gradients.k.contiguous(), dv = gradients.v.contiguous();
  cuda::rotate_heads_backward(dq.const_data_ptr(), dk.const_data_ptr(), dv.const_data_ptr(), qkv.const_data_ptr(),
                              factors_of(norms, angles), qkv_gradient.data_ptr(),
                              weight_parts.defined() ? weight_parts.data_ptr<float>() : nullptr, rows,
                              cuda::float_type(qkv), cuda::stream_for(qkv));
}

/// What the backward pass needs beside qkv and the result.
struct Call : torch::CustomClassHolder {
  PackedHeads heads;
  double eps = 0;
  RotaryAngles angles;
  Documents documents;
  double scale = 1;
  int64_t window = 0;
};

class RotaryAttention : public torch::autograd::Function<RotaryAttention> {
 public:
  // norm weights: undefined where there are none
  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv, const std::optional<at::Tensor>& q_norm,
                            const std::optional<at::Tensor>& k_norm, const AttendedDocuments& attended,
                            const c10::intrusive_ptr<Call>& call) {
    variable_list kept = {qkv, attended.out, attended.statistics, q_norm.value_or(at::Tensor()),
                          k_norm.value_or(at::Tensor())};
    kept.insert(kept.end(), attended.flash_state.begin(), attended.flash_state.end());
    context->save_for_backward(kept);
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    return attended.out.view({qkv.size(0), -1});
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto call = c10::static_intrusive_pointer_cast<Call>(context->saved_data["call"].toCapsule());
    const variable_list kept = context->get_saved_variables();
    const at::Tensor& qkv = kept[0];
    const HeadNorms norms{kept[3], kept[4], call->eps};
    const Heads heads = by_kernel(qkv, call->heads, norms, call->angles);
    at::Tensor qkv_gradient = at::empty_like(qkv);
    const AttentionGradients turned = attend_documents_backward(
        gradients[0].contiguous().view_as(kept[1]), heads.q, heads.k, heads.v,
        {kept[1], kept[2], {kept.begin() + 5, kept.end()}}, call->documents, call->scale, call->window);
    variable_list result = {qkv_gradient, {}, {}, {}, {}};
    const bool needs_weights = norms.q.defined() && (context->needs_input_grad(1) || context->needs_input_grad(2));
    at::Tensor weight_parts;
    if (needs_weights) {
      const auto options = qkv.options().dtype(at::kFloat);
      const std::vector<int64_t> sizes = {2, cuda::rotate_heads_num_parts(), call->heads.head_dim};
      weight_parts = qkv.size(0) > 0 ? at::empty(sizes, options) : at::zeros(sizes, options);
    }
    turn_back(turned, qkv, norms, call->angles, rows_of(qkv, call->heads), qkv_gradient, weight_parts);
    if (needs_weights) {
      const at::Tensor sums = weight_parts.sum(1).to(norms.q.scalar_type());
      result[1] = sums[0];
      result[2] = sums[1];
    }
    return result;
  }
};

std::optional<at::Tensor> given(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

void check(const at::Tensor& qkv, const PackedHeads& heads, const HeadNorms& norms, const RotaryAngles& angles) {
  DSFT_CHECK(qkv.dim() == 2 && qkv.size(1) == heads.width() && heads.num_heads % heads.num_kv_heads == 0 &&
                 angles.cos.size(0) == qkv.size(0) && 2 * angles.cos.size(1) == heads.head_dim &&
                 angles.cos.sizes() == angles.sin.sizes() && norms.q.defined() == norms.k.defined(),
             "heads of ", qkv.sizes(), " with angles ", angles.cos.sizes());
}

}  // namespace

Heads rotate_heads(const at::Tensor& qkv, const PackedHeads& heads, const HeadNorms& norms,
                   const RotaryAngles& angles) {
  check(qkv, heads, norms, angles);
  if (!at::GradMode::is_enabled() && has_kernel(qkv, heads))
    return by_kernel(qkv.contiguous(), heads, norms, {angles.cos.contiguous(), angles.sin.contiguous()});
  return by_operations(qkv, heads, norms, angles);
}

at::Tensor rotary_attention(const at::Tensor& qkv, const PackedHeads& heads, const HeadNorms& norms,
                            const RotaryAngles& angles, const Documents& documents, double scale, int64_t window) {
  check(qkv, heads, norms, angles);
  if (window >= documents.longest) window = 0;
  if (!has_kernel(qkv, heads) || !attends_by_device(qkv.options(), heads.head_dim)) {
    const Heads turned = by_operations(qkv, heads, norms, angles);
    return varlen_attention(turned.q, turned.k, turned.v, documents, scale, window).reshape({qkv.size(0), -1});
  }
  auto call = c10::make_intrusive<Call>();
  call->heads = heads;
  call->eps = norms.eps;
  call->angles = {angles.cos.contiguous(), angles.sin.contiguous()};
  call->scale = scale;
  call->window = window;
  const at::Tensor dense = qkv.contiguous();
  AttendedDocuments attended;
  {
    const at::NoGradGuard no_grad;
    const Heads turned = by_kernel(dense, heads, norms, call->angles);
    attended = attend_documents(turned.q, turned.k, turned.v, documents, scale, window);
  }
  call->documents = documents;  // with what the kernel has worked out from them
  return RotaryAttention::apply(dense, given(norms.q), given(norms.k), attended, call);
}

void prepare_rotary_attention(const at::TensorOptions& options, const PackedHeads& heads, const Documents& documents,
                              double scale, int64_t window) {
  if (window >= documents.longest) window = 0;  // as rotary_attention does
  if (cudnn::may_take(options, heads.head_dim))
    cudnn::prepare(options, {heads.num_heads, heads.num_kv_heads, heads.head_dim, heads.width(), scale, window},
                   documents);
}

}  // namespace dsft::kernels

#include "nn/attention.h"

#include <cmath>

#include "nn/replaced_values.h"
#include "nn/side_by_side.h"

namespace dsft::nn {

Attention::Attention(const spec::ModelSpec& spec, int64_t layer, at::TensorOptions options)
    : layer_(layer),
      window_(layer < static_cast<int64_t>(spec.uses_sliding_window.size()) && spec.uses_sliding_window[layer]
                  ? spec.sliding_window.value_or(0)
                  : 0),
      heads_{spec.num_attention_heads, spec.num_key_value_heads, spec.head_dim},
      scale_(1.0 / std::sqrt(static_cast<double>(spec.head_dim))) {
  const int64_t q_width = heads_.num_heads * heads_.head_dim, kv_width = heads_.num_kv_heads * heads_.head_dim;
  const auto projections =
      make_side_by_side(spec.hidden_size, {q_width, kv_width, kv_width}, spec.attention_bias, options);
  q_proj_ = register_module("q_proj", projections[0]);
  k_proj_ = register_module("k_proj", projections[1]);
  v_proj_ = register_module("v_proj", projections[2]);
  o_proj_ = register_module("o_proj", spec.attention_output_bias
                                          ? Linear::with_bias(q_width, spec.hidden_size, options)
                                          : std::make_shared<Linear>(q_width, spec.hidden_size, options));
  if (spec.has_qk_norm) {
    q_norm_ = register_module("q_norm", std::make_shared<RmsNorm>(spec.head_dim, spec.rms_norm_eps, options));
    k_norm_ = register_module("k_norm", std::make_shared<RmsNorm>(spec.head_dim, spec.rms_norm_eps, options));
  }
}

at::Tensor Attention::forward(const at::Tensor& x, const ForwardContext& context) const {
  const at::Tensor qkv = multiply_side_by_side(x, {q_proj_.get(), k_proj_.get(), v_proj_.get()}, context);
  kernels::HeadNorms norms;
  if (q_norm_) norms = {q_norm_->weight(), k_norm_->weight(), q_norm_->eps()};
  const kernels::RotaryAngles angles{context.cos, context.sin};
  return o_proj_->forward_to_residual(attend(qkv, norms, angles, context), context);
}

at::Tensor Attention::attend(const at::Tensor& qkv, const kernels::HeadNorms& norms,
                             const kernels::RotaryAngles& angles, const ForwardContext& context) const {
  if (context.cache) return context.cache->attend(layer_, qkv, heads_, norms, angles, scale_);
  at::Tensor as_decoded;
  if (context.as_decoded) {
    const at::NoGradGuard no_grad;
    const kernels::Heads heads = kernels::rotate_heads(qkv, heads_, norms, angles);
    as_decoded = kernels::attend_as_decoded(heads, *context.as_decoded, scale_, window_).reshape({qkv.size(0), -1});
  }
  if (as_decoded.defined() && !at::GradMode::is_enabled()) return as_decoded;
  const at::Tensor attended = kernels::rotary_attention(qkv, heads_, norms, angles, context.documents, scale_, window_);
  return as_decoded.defined() ? replace_values(attended, as_decoded) : attended;
}

void Attention::prepare(const kernels::Documents& documents) const {
  kernels::prepare_rotary_attention(q_proj_->weight().options(), heads_, documents, scale_, window_);
}

}  // namespace dsft::nn

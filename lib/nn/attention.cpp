#include "nn/attention.h"

#include <cmath>

#include "kernels/norm_rotate.h"
#include "kernels/rotary.h"
#include "kernels/varlen_attention.h"

namespace dsft::nn {
namespace {

std::shared_ptr<Linear> make_linear(int64_t in, int64_t out, bool has_bias, at::TensorOptions options) {
  return has_bias ? Linear::with_bias(in, out, options) : std::make_shared<Linear>(in, out, options);
}

}  // namespace

Attention::Attention(const spec::ModelSpec& spec, int64_t layer, at::TensorOptions options)
    : layer_(layer),
      num_heads_(spec.num_attention_heads),
      num_kv_heads_(spec.num_key_value_heads),
      head_dim_(spec.head_dim),
      window_(layer < static_cast<int64_t>(spec.uses_sliding_window.size()) && spec.uses_sliding_window[layer]
                  ? spec.sliding_window.value_or(0)
                  : 0),
      scale_(1.0 / std::sqrt(static_cast<double>(spec.head_dim))) {
  const int64_t hidden = spec.hidden_size;
  q_proj_ = register_module("q_proj", make_linear(hidden, num_heads_ * head_dim_, spec.attention_bias, options));
  k_proj_ = register_module("k_proj", make_linear(hidden, num_kv_heads_ * head_dim_, spec.attention_bias, options));
  v_proj_ = register_module("v_proj", make_linear(hidden, num_kv_heads_ * head_dim_, spec.attention_bias, options));
  o_proj_ = register_module("o_proj", make_linear(num_heads_ * head_dim_, hidden, spec.attention_output_bias, options));
  if (spec.has_qk_norm) {
    q_norm_ = register_module("q_norm", std::make_shared<RmsNorm>(head_dim_, spec.rms_norm_eps, options));
    k_norm_ = register_module("k_norm", std::make_shared<RmsNorm>(head_dim_, spec.rms_norm_eps, options));
  }
}

at::Tensor Attention::forward(const at::Tensor& x, const ForwardContext& context) const {
  const int64_t num_tokens = x.size(0);
  at::Tensor q = q_proj_->forward(x, context).view({num_tokens, num_heads_, head_dim_});
  at::Tensor k = k_proj_->forward(x, context).view({num_tokens, num_kv_heads_, head_dim_});
  const at::Tensor v = v_proj_->forward(x, context).view({num_tokens, num_kv_heads_, head_dim_});
  if (q_norm_) {
    q = kernels::norm_rotate(q, q_norm_->weight(), q_norm_->eps(), context.cos, context.sin);
    k = kernels::norm_rotate(k, k_norm_->weight(), k_norm_->eps(), context.cos, context.sin);
  } else {
    q = kernels::rotate(q, context.cos, context.sin);
    k = kernels::rotate(k, context.cos, context.sin);
  }
  const at::Tensor attended = context.cache ? context.cache->attend(layer_, q, k, v, scale_)
                                            : kernels::varlen_attention(q, k, v, context.documents, scale_, window_);
  return o_proj_->forward(attended.reshape({num_tokens, num_heads_ * head_dim_}), context);
}

}  // namespace dsft::nn

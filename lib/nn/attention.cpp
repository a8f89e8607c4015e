#include "nn/attention.h"

#include <cmath>

#include "kernels/rotary.h"

namespace dsft::nn {
namespace {

std::shared_ptr<Linear> make_linear(int64_t in, int64_t out, bool has_bias, at::TensorOptions options) {
  return has_bias ? Linear::with_bias(in, out, options) : std::make_shared<Linear>(in, out, options);
}

// [L, heads, D] -> [1, heads * repeats, L, D]; each kv head serves `repeats` consecutive query heads.
at::Tensor to_dense(const at::Tensor& x, int64_t repeats) {
  at::Tensor heads = x.transpose(0, 1).unsqueeze(0);
  if (repeats == 1) return heads;
  return heads.unsqueeze(2)
      .expand({1, x.size(1), repeats, x.size(0), x.size(2)})
      .reshape({1, x.size(1) * repeats, x.size(0), x.size(2)});
}

at::Tensor window_mask(int64_t length, int64_t window, at::Device device) {
  const at::Tensor index = torch::arange(length, at::TensorOptions(at::kLong).device(device));
  const at::Tensor distance = index.unsqueeze(1) - index.unsqueeze(0);
  return distance.ge(0).logical_and(distance.lt(window));
}

}  // namespace

at::Tensor varlen_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<int64_t>& boundaries, double scale, int64_t window) {
  const int64_t repeats = q.size(1) / k.size(1);
  std::vector<at::Tensor> documents;
  for (size_t d = 0; d + 1 < boundaries.size(); ++d) {
    const int64_t begin = boundaries[d], length = boundaries[d + 1] - begin;
    const at::Tensor dense_q = to_dense(q.narrow(0, begin, length), 1);
    const at::Tensor dense_k = to_dense(k.narrow(0, begin, length), repeats),
                     dense_v = to_dense(v.narrow(0, begin, length), repeats);
    const bool is_windowed = window > 0 && window < length;
    const at::Tensor out = at::scaled_dot_product_attention(
        dense_q, dense_k, dense_v,
        is_windowed ? std::optional<at::Tensor>(window_mask(length, window, q.device())) : std::nullopt,
        /*dropout_p=*/0.0,
        /*is_causal=*/!is_windowed, scale);
    documents.push_back(out.squeeze(0).transpose(0, 1));
  }
  return documents.size() == 1 ? documents[0] : torch::cat(documents, 0);
}

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
    q = q_norm_->forward(q);
    k = k_norm_->forward(k);
  }
  q = kernels::rotate(q, context.cos, context.sin);
  k = kernels::rotate(k, context.cos, context.sin);
  const at::Tensor attended = context.cache ? context.cache->attend(layer_, q, k, v, scale_)
                                            : varlen_attention(q, k, v, context.boundaries, scale_, window_);
  return o_proj_->forward(attended.reshape({num_tokens, num_heads_ * head_dim_}), context);
}

}  // namespace dsft::nn

#include "nn/decoder_layer.h"

#include "kernels/rms_norm.h"

namespace dsft::nn {

DecoderLayer::DecoderLayer(const spec::ModelSpec& spec, int64_t layer, at::TensorOptions options) {
  self_attn_ = register_module("self_attn", std::make_shared<Attention>(spec, layer, options));
  mlp_ = register_module("mlp", std::make_shared<Mlp>(spec, options));
  input_layernorm_ =
      register_module("input_layernorm", std::make_shared<RmsNorm>(spec.hidden_size, spec.rms_norm_eps, options));
  post_attention_layernorm_ = register_module("post_attention_layernorm",
                                              std::make_shared<RmsNorm>(spec.hidden_size, spec.rms_norm_eps, options));
}

at::Tensor DecoderLayer::forward(const at::Tensor& x, const ForwardContext& context) const {
  const auto [attended, normed] =
      kernels::add_rms_norm(x, self_attn_->forward(input_layernorm_->forward(x), context),
                            post_attention_layernorm_->weight(), post_attention_layernorm_->eps());
  return attended + mlp_->forward(normed, context);
}

}  // namespace dsft::nn

#include "nn/decoder_layer.h"

namespace dsft::nn {

DecoderLayer::DecoderLayer(const spec::ModelSpec& spec, int64_t layer, at::TensorOptions options) {
  self_attn_ = register_module("self_attn", std::make_shared<Attention>(spec, layer, options));
  mlp_ = register_module("mlp", std::make_shared<Mlp>(spec, options));
  input_layernorm_ =
      register_module("input_layernorm", std::make_shared<RmsNorm>(spec.hidden_size, spec.rms_norm_eps, options));
  post_attention_layernorm_ = register_module("post_attention_layernorm",
                                              std::make_shared<RmsNorm>(spec.hidden_size, spec.rms_norm_eps, options));
}

Residual DecoderLayer::forward(const Residual& x, const ForwardContext& context, Values values) const {
  const kernels::NormedSum in = input_layernorm_->forward(x.base, x.added);
  const kernels::NormedSum attended =
      post_attention_layernorm_->forward(in.sum, self_attn_->forward(in.normed, context));
  return {attended.sum, mlp_->forward(attended.normed, context, values)};
}

}  // namespace dsft::nn

#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include "nn/attention.h"
#include "nn/mlp.h"
#include "nn/norm.h"

namespace dsft::nn {

/// x + attention(norm(x)), then x + mlp(norm(x)).
class DecoderLayer final : public torch::nn::Module {
 public:
  DecoderLayer(const spec::ModelSpec& spec, int64_t layer, at::TensorOptions options);
  /// x [T, H] -> [T, H].
  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) const;

 private:
  std::shared_ptr<RmsNorm> input_layernorm_, post_attention_layernorm_;
  std::shared_ptr<Attention> self_attn_;
  std::shared_ptr<Mlp> mlp_;
};

}  // namespace dsft::nn

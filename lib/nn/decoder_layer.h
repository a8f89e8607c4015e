#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include "nn/attention.h"
#include "nn/mlp.h"
#include "nn/norm.h"

namespace dsft::nn {

/// The residual stream [T, H] between two layers: `base`, to which the next norm adds `added` on its way: [T, H], in a
/// decoding step also parts [P, T, H] in fp32 of it; undefined: there is nothing to add.
struct Residual {
  at::Tensor base, added;

  at::Tensor sum() const {
    if (!added.defined()) return base;
    return base + (added.dim() > base.dim() ? added.sum(0).to(base.scalar_type()) : added);
  }
};

/// x + attention(norm(x)), then x + mlp(norm(x)).
class DecoderLayer final : public torch::nn::Module {
 public:
  DecoderLayer(const spec::ModelSpec& spec, int64_t layer, at::TensorOptions options);
  /// The last sum is left to the next layer. Where values are not read, `added` has none.
  Residual forward(const Residual& x, const ForwardContext& context, Values values = Values::kRead) const;
  /// Attention::prepare.
  void prepare(const kernels::Documents& documents) const { self_attn_->prepare(documents); }

 private:
  std::shared_ptr<RmsNorm> input_layernorm_, post_attention_layernorm_;
  std::shared_ptr<Attention> self_attn_;
  std::shared_ptr<Mlp> mlp_;
};

}  // namespace dsft::nn

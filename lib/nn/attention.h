#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include "kernels/rotary_attention.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "spec/model_spec.h"

namespace dsft::nn {

/// Grouped-query self-attention of the llama and qwen families: q, k, v and o projections, optional RMSNorm of each
/// head of q and k, rotary positions.
class Attention final : public torch::nn::Module {
 public:
  Attention(const spec::ModelSpec& spec, int64_t layer, at::TensorOptions options);

  /// x [T, H] -> [T, H].
  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) const;

  /// Makes what takes time to make before attention to such documents, without the weights' values.
  void prepare(const kernels::Documents& documents) const;

 private:
  at::Tensor attend(const at::Tensor& qkv, const kernels::HeadNorms& norms, const kernels::RotaryAngles& angles,
                    const ForwardContext& context) const;

  int64_t layer_, window_;
  kernels::PackedHeads heads_;
  double scale_;
  std::shared_ptr<Linear> q_proj_, k_proj_, v_proj_, o_proj_;
  std::shared_ptr<RmsNorm> q_norm_, k_norm_;  // null where the family has none
};

}  // namespace dsft::nn

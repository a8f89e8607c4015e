#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include "nn/linear.h"
#include "spec/model_spec.h"

namespace dsft::nn {

/// down(silu(gate(x)) * up(x)).
class Mlp final : public torch::nn::Module {
 public:
  Mlp(const spec::ModelSpec& spec, at::TensorOptions options);
  /// x [T, H] -> [T, H], or parts of it (Residual).
  at::Tensor forward(const at::Tensor& x, const ForwardContext& context, Values values = Values::kRead) const;

 private:
  at::Tensor activate(const at::Tensor& x, const ForwardContext& context) const;

  std::shared_ptr<Linear> gate_proj_, up_proj_, down_proj_;
};

}  // namespace dsft::nn

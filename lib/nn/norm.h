#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include "kernels/rms_norm.h"

namespace dsft::nn {

/// RMSNorm with a learned weight, as Hugging Face's LlamaRMSNorm.
class RmsNorm final : public torch::nn::Module {
 public:
  RmsNorm(int64_t size, double eps, at::TensorOptions options);
  at::Tensor forward(const at::Tensor& x) const;
  /// Of x + added, and that sum; of x where `added` is undefined.
  kernels::NormedSum forward(const at::Tensor& x, const at::Tensor& added) const;
  const at::Tensor& weight() const { return weight_; }
  double eps() const { return eps_; }

 private:
  at::Tensor weight_;
  double eps_;
};

}  // namespace dsft::nn

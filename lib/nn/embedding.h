#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

namespace dsft::nn {

/// A table of token vectors, "weight" [V, H].
class Embedding final : public torch::nn::Module {
 public:
  Embedding(int64_t vocab_size, int64_t size, at::TensorOptions options) {
    weight_ = register_parameter("weight", torch::empty({vocab_size, size}, options), /*requires_grad=*/false);
  }
  /// ids int64 [T] -> [T, H]. Where the weight has a .grad, which is in fp32 (an optimizer keeps the sum of its
  /// micro-batches there), the backward pass adds to its rows.
  at::Tensor forward(const at::Tensor& ids) const;
  const at::Tensor& weight() const { return weight_; }

 private:
  at::Tensor weight_;
};

}  // namespace dsft::nn

#pragma once

#include <ATen/core/Tensor.h>

namespace dsft::nn {

/// How a Linear keeps its weight. Dense today; quantised storages give the same products from their packed form.
class WeightStorage {
 public:
  virtual ~WeightStorage() = default;

  /// x W^T + bias for x [T, in]; bias may be undefined. Without a graph of its own.
  virtual at::Tensor multiply(const at::Tensor& x, const at::Tensor& bias) const = 0;

  /// dy W for dy [T, out]: the gradient of x.
  virtual at::Tensor multiply_gradient(const at::Tensor& dy) const = 0;

  /// Whether the weight itself is trained.
  virtual bool is_trained() const = 0;

  /// The weight [out, in] as a dense tensor, for merging and checks.
  virtual at::Tensor dense() const = 0;

  /// The weight where it lies in memory as it is; undefined where it is packed.
  virtual at::Tensor resident() const = 0;
};

/// A weight kept as it is; shares the module's registered parameter.
class DenseWeight final : public WeightStorage {
 public:
  explicit DenseWeight(at::Tensor weight) : weight_(std::move(weight)) {}
  at::Tensor multiply(const at::Tensor& x, const at::Tensor& bias) const override;
  at::Tensor multiply_gradient(const at::Tensor& dy) const override;
  bool is_trained() const override { return weight_.requires_grad(); }
  at::Tensor dense() const override { return weight_; }
  at::Tensor resident() const override { return weight_; }

 private:
  at::Tensor weight_;
};

}  // namespace dsft::nn

#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <memory>
#include <optional>
#include <string>

#include "nn/forward_context.h"
#include "nn/weight_storage.h"

namespace dsft::nn {

/// The low-rank update of a Linear (Hu et al., "LoRA", 2021): scale * B(A(dropout(x))).
struct LoraAdapter {
  at::Tensor a;        ///< [r, in], fp32
  at::Tensor b;        ///< [out, r], fp32
  double scale = 1.0;  ///< alpha / r, or alpha / sqrt(r)
  double dropout = 0.0;
  uint64_t dropout_key = 0;  ///< hash_name of the module's path
  bool is_enabled = true;
};

/// y = x W^T + bias, plus the adapter's part where the slot is filled and enabled. Registers "weight" and "bias" as
/// Hugging Face names them; the adapter's tensors are not part of the module's parameters, so that these stay the
/// checkpoint's.
class Linear final : public torch::nn::Module {
 public:
  Linear(int64_t in_features, int64_t out_features, at::TensorOptions options);
  /// With a bias.
  static std::shared_ptr<Linear> with_bias(int64_t in_features, int64_t out_features, at::TensorOptions options);

  /// Over memory that is there: weight [out, in], bias [out] or undefined.
  static std::shared_ptr<Linear> over(const at::Tensor& weight, const at::Tensor& bias);

  /// A Linear over another module's weight [out, in] (a tied head); the weight is not registered a second time.
  static std::shared_ptr<Linear> tied_to(const at::Tensor& weight);
  bool is_tied() const { return is_tied_; }
  /// Gives a tied Linear a registered weight of its own, a copy of the shared one (without memory
  /// where that has none).
  void untie();

  /// x [T, in] -> [T, out]; without values where these are not read.
  at::Tensor forward(const at::Tensor& x, const ForwardContext& context, Values values = Values::kRead) const;

  /// forward for a result that is added to a residual stream: in generation it may come as parts (Residual).
  at::Tensor forward_to_residual(const at::Tensor& x, const ForwardContext& context,
                                 Values values = Values::kRead) const;

  int64_t in_features() const { return in_features_; }
  int64_t out_features() const { return out_features_; }
  const WeightStorage& storage() const { return *storage_; }
  at::Tensor weight() const { return storage_->dense(); }
  const at::Tensor& bias() const { return bias_; }

  std::optional<LoraAdapter>& adapter() { return adapter_; }
  const std::optional<LoraAdapter>& adapter() const { return adapter_; }

 private:
  explicit Linear(const at::Tensor& weight);

  int64_t in_features_, out_features_;
  std::unique_ptr<WeightStorage> storage_;
  at::Tensor bias_;
  bool is_tied_ = false;
  std::optional<LoraAdapter> adapter_;
};

}  // namespace dsft::nn

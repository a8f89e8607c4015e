#include "nn/linear.h"

#include "base/error.h"
#include "kernels/few_rows_product.h"
#include "kernels/float_products.h"
#include "nn/parameter_memory.h"
#include "nn/side_by_side.h"

namespace dsft::nn {

at::Tensor DenseWeight::multiply(const at::Tensor& x, const at::Tensor& bias) const {
  const at::NoGradGuard no_grad;
  return torch::linear(x, weight_, bias);
}

at::Tensor DenseWeight::multiply_gradient(const at::Tensor& dy) const {
  const at::NoGradGuard no_grad;
  return at::mm(dy, weight_);
}

Linear::Linear(int64_t in_features, int64_t out_features, at::TensorOptions options)
    : in_features_(in_features), out_features_(out_features) {
  storage_ = std::make_unique<DenseWeight>(
      register_parameter("weight", torch::empty({out_features, in_features}, options), /*requires_grad=*/false));
}

Linear::Linear(const at::Tensor& weight)
    : in_features_(weight.size(1)), out_features_(weight.size(0)), storage_(std::make_unique<DenseWeight>(weight)) {}

std::shared_ptr<Linear> Linear::tied_to(const at::Tensor& weight) {
  auto linear = std::shared_ptr<Linear>(new Linear(weight));
  linear->is_tied_ = true;
  return linear;
}

void Linear::untie() {
  DSFT_CHECK(is_tied_, "a Linear that is not tied was to be untied");
  const at::Tensor shared = weight().detach();
  at::Tensor own = has_memory(shared) ? shared.clone() : at::empty_like(shared);
  if (!has_memory(shared)) release_memory(own);
  storage_ = std::make_unique<DenseWeight>(register_parameter("weight", own, /*requires_grad=*/false));
  is_tied_ = false;
}

std::shared_ptr<Linear> Linear::with_bias(int64_t in_features, int64_t out_features, at::TensorOptions options) {
  return over(torch::empty({out_features, in_features}, options), torch::empty({out_features}, options));
}

std::shared_ptr<Linear> Linear::over(const at::Tensor& weight, const at::Tensor& bias) {
  auto linear = std::shared_ptr<Linear>(new Linear(weight));
  linear->storage_ =
      std::make_unique<DenseWeight>(linear->register_parameter("weight", weight, /*requires_grad=*/false));
  if (bias.defined()) linear->bias_ = linear->register_parameter("bias", bias, /*requires_grad=*/false);
  return linear;
}

at::Tensor Linear::forward(const at::Tensor& x, const ForwardContext& context, Values values) const {
  return multiply_side_by_side(x, {this}, context, values);
}

at::Tensor Linear::forward_to_residual(const at::Tensor& x, const ForwardContext& context, Values values) const {
  const bool is_plain =
      context.is_generating() && !context.isolates_rows && !(adapter_ && adapter_->is_enabled) && !bias_.defined();
  if (is_plain && storage_->resident().defined()) {
    at::Tensor product = kernels::multiply_few_rows(x, storage_->resident());
    if (!product.defined()) product = kernels::multiply_in_parts(x, storage_->resident());
    if (product.defined()) return product;
  }
  return forward(x, context, values);
}

}  // namespace dsft::nn

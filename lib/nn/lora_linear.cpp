#include "nn/lora_linear.h"

#include <torch/autograd.h>

#include "base/error.h"

namespace dsft::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What the backward pass needs beside tensors.
struct LoraCall : torch::CustomClassHolder {
  const WeightStorage* weight = nullptr;  // outlives the graph: its module is kept by whoever runs it
  double scale = 1, dropout = 0;
  uint64_t dropout_key = 0;
  kernels::DropoutKeys keys;

  at::Tensor drop(const at::Tensor& x) const {
    return dropout > 0 ? kernels::counter_dropout(x, dropout, dropout_key, keys) : x;
  }
};

class LoraLinear : public torch::autograd::Function<LoraLinear> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& a, const at::Tensor& b,
                            const std::optional<at::Tensor>& bias, const c10::intrusive_ptr<LoraCall>& call) {
    const at::Tensor narrow_a = a.to(x.scalar_type()), narrow_b = b.to(x.scalar_type());
    at::Tensor y = call->weight->multiply(x, bias.value_or(at::Tensor()));
    const at::Tensor low = at::mm(call->drop(x), narrow_a.t());
    y.addmm_(low, narrow_b.t(), 1.0, call->scale);
    context->save_for_backward({x, low, narrow_a, narrow_b});
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    context->saved_data["has_bias"] = bias.has_value();
    context->saved_data["type"] = static_cast<int64_t>(a.scalar_type());
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &low = saved[1], &a = saved[2], &b = saved[3];
    const auto call = c10::static_intrusive_pointer_cast<LoraCall>(context->saved_data["call"].toCapsule());
    const auto type = static_cast<at::ScalarType>(context->saved_data["type"].toInt());
    const at::Tensor dy = gradients[0].contiguous();
    const at::Tensor d_low = at::mm(dy, b).mul_(call->scale);  // [T, r]
    variable_list result(5);
    if (context->needs_input_grad(1)) result[1] = at::mm(d_low.t(), call->drop(x)).to(type);
    if (context->needs_input_grad(2)) result[2] = at::mm(dy.t(), low).to(type).mul_(call->scale);
    if (context->saved_data["has_bias"].toBool() && context->needs_input_grad(3)) result[3] = dy.sum(0);
    if (context->needs_input_grad(0)) {
      at::Tensor dx = call->weight->multiply_gradient(dy);
      result[0] = call->dropout > 0 ? dx.add_(call->drop(at::mm(d_low, a))) : dx.addmm_(d_low, a);
    }
    return result;
  }
};

}  // namespace

at::Tensor lora_linear(const at::Tensor& x, const WeightStorage& weight, const at::Tensor& bias,
                       const LoraAdapter& adapter, const kernels::DropoutKeys* dropout) {
  DSFT_CHECK(!weight.is_trained(), "a weight under an adapter is trained too");
  auto call = c10::make_intrusive<LoraCall>();
  call->weight = &weight;
  call->scale = adapter.scale;
  call->dropout_key = adapter.dropout_key;
  if (dropout) {
    call->dropout = adapter.dropout;
    call->keys = *dropout;
  }
  return LoraLinear::apply(x, adapter.a, adapter.b, bias.defined() ? std::optional(bias) : std::nullopt, call);
}

}  // namespace dsft::nn

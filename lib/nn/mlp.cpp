#include "nn/mlp.h"

#include "kernels/swiglu.h"
#include "nn/side_by_side.h"

namespace dsft::nn {

Mlp::Mlp(const spec::ModelSpec& spec, at::TensorOptions options) {
  const int64_t hidden = spec.hidden_size, inner = spec.intermediate_size;
  const auto projections = make_side_by_side(hidden, {inner, inner}, spec.mlp_bias, options);
  gate_proj_ = register_module("gate_proj", projections[0]);
  up_proj_ = register_module("up_proj", projections[1]);
  down_proj_ = register_module("down_proj", spec.mlp_bias ? Linear::with_bias(inner, hidden, options)
                                                          : std::make_shared<Linear>(inner, hidden, options));
}

at::Tensor Mlp::forward(const at::Tensor& x, const ForwardContext& context) const {
  const at::Tensor gate_up = multiply_side_by_side(x, {gate_proj_.get(), up_proj_.get()}, context);
  return down_proj_->forward(kernels::swiglu(gate_up), context);
}

}  // namespace dsft::nn

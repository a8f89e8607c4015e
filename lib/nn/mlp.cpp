#include "nn/mlp.h"

#include "kernels/swiglu.h"

namespace dsft::nn {

Mlp::Mlp(const spec::ModelSpec& spec, at::TensorOptions options) {
  const auto make = [&](int64_t in, int64_t out) {
    return spec.mlp_bias ? Linear::with_bias(in, out, options) : std::make_shared<Linear>(in, out, options);
  };
  gate_proj_ = register_module("gate_proj", make(spec.hidden_size, spec.intermediate_size));
  up_proj_ = register_module("up_proj", make(spec.hidden_size, spec.intermediate_size));
  down_proj_ = register_module("down_proj", make(spec.intermediate_size, spec.hidden_size));
}

at::Tensor Mlp::forward(const at::Tensor& x, const ForwardContext& context) const {
  return down_proj_->forward(kernels::swiglu(gate_proj_->forward(x, context), up_proj_->forward(x, context)), context);
}

}  // namespace dsft::nn

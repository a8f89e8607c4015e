#include "nn/mlp.h"

#include "nn/block_runner.h"
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

// silu(gate(x)) * up(x)
at::Tensor Mlp::activate(const at::Tensor& x, const ForwardContext& context) const {
  return multiply_gated(x, *gate_proj_, *up_proj_, context);
}

at::Tensor Mlp::forward(const at::Tensor& x, const ForwardContext& context, Values values) const {
  if (!context.recomputes_mlp) return down_proj_->forward_to_residual(activate(x, context), context, values);
  // the layer's own node keeps module and context until its backward pass is over
  const auto block = [this, &context](const auto& in) { return std::vector<at::Tensor>{activate(in[0], context)}; };
  const at::Tensor inner = BlockRunner(BlockRunner::Keep::kInput).run(0, block, {x})[0];
  return down_proj_->forward_to_residual(inner, context, values);
}

}  // namespace dsft::nn

#include "nn/block_runner.h"

#include <torch/autograd.h>
#include <torch/types.h>

#include "base/error.h"

namespace dsft::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The state of one run, kept alive by the autograd node.
struct BlockRun : torch::CustomClassHolder {
  int64_t index = 0;
  Block block;
  BlockRunner::Keep keep = BlockRunner::Keep::kGraph;
  BlockHooks* hooks = nullptr;
  variable_list inputs;   // detached leaves of the inner graph
  variable_list outputs;  // of the inner graph; empty between forward and backward where only inputs are kept

  void call(void (BlockHooks::*hook)(int64_t)) const {
    if (hooks) (hooks->*hook)(index);
  }
};

// First input: the anchor, an empty tensor that requires a gradient. Others: the block's inputs.
class BlockFunction : public torch::autograd::Function<BlockFunction> {
 public:
  static variable_list forward(AutogradContext* context, at::TensorList anchored_inputs,
                               const c10::intrusive_ptr<BlockRun>& run) {
    for (const at::Tensor& input : anchored_inputs.slice(1)) {
      at::Tensor leaf = input.detach();
      if (leaf.is_floating_point()) leaf.requires_grad_(input.requires_grad());
      run->inputs.push_back(leaf);
    }
    run->call(&BlockHooks::before_forward);
    variable_list outputs;
    {
      at::AutoGradMode grad_mode(run->keep != BlockRunner::Keep::kInput);
      outputs = run->block(run->inputs);
    }
    run->call(&BlockHooks::after_forward);
    variable_list results;
    variable_list constants;
    for (const at::Tensor& output : outputs) {
      results.push_back(output.detach());
      if (!output.is_floating_point()) constants.push_back(results.back());
    }
    if (run->keep != BlockRunner::Keep::kInput) run->outputs = std::move(outputs);
    context->mark_non_differentiable(constants);
    context->saved_data["run"] = c10::IValue::make_capsule(run);
    return results;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto run = c10::static_intrusive_pointer_cast<BlockRun>(context->saved_data["run"].toCapsule());
    run->call(&BlockHooks::before_backward);
    if (run->keep == BlockRunner::Keep::kInput) {
      at::AutoGradMode grad_mode(true);
      run->outputs = run->block(run->inputs);
    }
    DSFT_CHECK(run->outputs.size() == gradients.size(), "the backward pass of block ", run->index, " ran twice");
    variable_list roots, root_gradients;
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (!gradients[i].defined() || !run->outputs[i].requires_grad()) continue;
      roots.push_back(run->outputs[i]);
      root_gradients.push_back(gradients[i]);
    }
    if (!roots.empty()) torch::autograd::backward(roots, root_gradients);
    variable_list input_gradients = {at::Tensor()};
    for (const at::Tensor& input : run->inputs)
      input_gradients.push_back(input.requires_grad() ? input.grad() : at::Tensor());
    input_gradients.emplace_back();  // the run itself
    run->inputs.clear();
    run->outputs.clear();
    run->block = nullptr;
    run->call(&BlockHooks::after_backward);
    return input_gradients;
  }
};

}  // namespace

std::vector<at::Tensor> BlockRunner::run(int64_t index, const Block& block,
                                         const std::vector<at::Tensor>& inputs) const {
  if (!at::GradMode::is_enabled()) {
    if (hooks_) hooks_->before_forward(index);
    std::vector<at::Tensor> outputs = block(inputs);
    if (hooks_) hooks_->after_forward(index);
    return outputs;
  }
  auto run = c10::make_intrusive<BlockRun>();
  run->index = index;
  run->block = block;
  run->keep = keep_;
  run->hooks = hooks_;
  variable_list anchored = {torch::empty({0}, at::TensorOptions().requires_grad(true))};
  anchored.insert(anchored.end(), inputs.begin(), inputs.end());
  return BlockFunction::apply(at::TensorList(anchored), run);
}

}  // namespace dsft::nn

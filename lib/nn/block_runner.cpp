#include "nn/block_runner.h"

#include <torch/autograd.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/types.h>

#include "base/error.h"

namespace dsft::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Gradients : torch::CustomClassHolder {
  variable_list values;
};

// Where an inner graph begins: hands its inputs on, and leaves their gradients for the block's node to take. First
// input: the anchor, an empty tensor that requires a gradient.
class Entry : public torch::autograd::Function<Entry> {
 public:
  static variable_list forward(AutogradContext* context, at::TensorList anchored_inputs,
                               const c10::intrusive_ptr<Gradients>& gradients) {
    context->saved_data["gradients"] = c10::IValue::make_capsule(gradients);
    variable_list outputs;
    for (const at::Tensor& input : anchored_inputs.slice(1)) outputs.push_back(input.detach());
    return outputs;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const size_t num_inputs = gradients.size() + 2;
    c10::static_intrusive_pointer_cast<Gradients>(context->saved_data["gradients"].toCapsule())->values =
        std::move(gradients);
    return variable_list(num_inputs);
  }
};

at::Tensor make_anchor() {
  return torch::empty({0}, at::TensorOptions().requires_grad(true));
}

// The state of one run, kept alive by the autograd node.
struct BlockRun : torch::CustomClassHolder {
  int64_t index = 0;
  Block block;
  BlockRunner::Keep keep = BlockRunner::Keep::kGraph;
  BlockHooks* hooks = nullptr;
  std::vector<bool> needs_gradient;  // by input
  variable_list inputs;              // detached; empty where the graph is kept
  bool has_graph = false;
  torch::autograd::edge_list outputs;                                                // of the inner graph
  c10::intrusive_ptr<Gradients> input_gradients = c10::make_intrusive<Gradients>();  // of those that need one

  void call(void (BlockHooks::*hook)(int64_t)) const {
    if (hooks) (hooks->*hook)(index);
  }

  // Calls the block with the inner graph on.
  variable_list make_graph(const variable_list& detached) {
    const at::AutoGradMode grad_mode(true);
    variable_list anchored = {make_anchor()};
    for (size_t i = 0; i < detached.size(); ++i)
      if (needs_gradient[i]) anchored.push_back(detached[i]);
    variable_list entered = detached;
    if (anchored.size() > 1) {
      const variable_list connected = Entry::apply(at::TensorList(anchored), input_gradients);
      for (size_t i = 0, next = 0; i < detached.size(); ++i)
        if (needs_gradient[i]) entered[i] = connected[next++];
    }
    variable_list results = block(entered);
    for (const at::Tensor& result : results)
      outputs.push_back(result.requires_grad() ? torch::autograd::impl::gradient_edge(result)
                                               : torch::autograd::Edge());
    has_graph = true;
    return results;
  }
};

// First input: the anchor. Others: the block's inputs.
class BlockFunction : public torch::autograd::Function<BlockFunction> {
 public:
  static variable_list forward(AutogradContext* context, at::TensorList anchored_inputs,
                               const c10::intrusive_ptr<BlockRun>& run, const Block& block) {
    variable_list inputs;
    for (const at::Tensor& input : anchored_inputs.slice(1)) {
      inputs.push_back(input.detach());
      run->needs_gradient.push_back(input.requires_grad());
    }
    run->call(&BlockHooks::before_forward);
    const variable_list outputs = run->keep == BlockRunner::Keep::kInput ? block(inputs) : run->make_graph(inputs);
    run->call(&BlockHooks::after_forward);
    if (run->keep == BlockRunner::Keep::kInput) run->inputs = std::move(inputs);
    variable_list results;
    variable_list constants;
    for (const at::Tensor& output : outputs) {
      results.push_back(output.detach());
      if (!output.is_floating_point()) constants.push_back(results.back());
    }
    context->mark_non_differentiable(constants);
    context->saved_data["run"] = c10::IValue::make_capsule(run);
    return results;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto run = c10::static_intrusive_pointer_cast<BlockRun>(context->saved_data["run"].toCapsule());
    DSFT_CHECK(run->block, "the backward pass of block ", run->index, " ran twice");
    run->call(&BlockHooks::before_backward);
    const bool is_recomputed = !run->has_graph;
    if (is_recomputed) run->make_graph(run->inputs);
    if (run->hooks) run->hooks->before_gradients(run->index, is_recomputed);
    torch::autograd::edge_list roots;
    variable_list root_gradients;
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (!gradients[i].defined() || !run->outputs[i].is_valid()) continue;
      roots.push_back(run->outputs[i]);
      root_gradients.push_back(gradients[i]);
    }
    run->outputs.clear();
    if (!roots.empty())
      torch::autograd::Engine::get_default_engine().execute(roots, root_gradients, /*keep_graph=*/false,
                                                            /*create_graph=*/false, /*accumulate_grad=*/true);
    roots.clear();
    variable_list input_gradients = {at::Tensor()};
    size_t next = 0;
    for (const bool needs : run->needs_gradient) {
      const bool has = needs && next < run->input_gradients->values.size();
      input_gradients.push_back(has ? run->input_gradients->values[next++] : at::Tensor());
    }
    input_gradients.resize(input_gradients.size() + 2);  // the run and the block
    run->inputs.clear();
    run->input_gradients->values.clear();
    run->block = nullptr;
    run->call(&BlockHooks::after_backward);
    return input_gradients;
  }
};

}  // namespace

std::vector<at::Tensor> BlockRunner::run(int64_t index, const Block& block, const std::vector<at::Tensor>& inputs,
                                         const Block& rebuild) const {
  if (!at::GradMode::is_enabled()) {
    if (hooks_) hooks_->before_forward(index);
    std::vector<at::Tensor> outputs = block(inputs);
    if (hooks_) hooks_->after_forward(index);
    return outputs;
  }
  auto run = c10::make_intrusive<BlockRun>();
  run->index = index;
  run->block = rebuild && keep_ == Keep::kInput ? rebuild : block;
  run->keep = keep_;
  run->hooks = hooks_;
  variable_list anchored = {make_anchor()};
  anchored.insert(anchored.end(), inputs.begin(), inputs.end());
  return BlockFunction::apply(at::TensorList(anchored), run, block);
}

}  // namespace dsft::nn

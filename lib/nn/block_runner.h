#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace dsft::nn {

/// A part of the model that is gathered, recomputed and reduced as one: inputs -> outputs, a pure function of its
/// inputs and its parameters.
using Block = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

/// What happens around a block; sharding implements it. Blocks report backward strictly last to first, each its
/// before_backward, a recomputation where its graph was not kept, before_gradients, and after_backward. After
/// after_backward(i) the gradients of block i's own parameters are final for this micro-batch (a tied embedding's only
/// after the whole backward pass).
class BlockHooks {
 public:
  virtual ~BlockHooks() = default;
  virtual void before_forward(int64_t /*block*/) {}
  virtual void after_forward(int64_t /*block*/) {}
  virtual void before_backward(int64_t /*block*/) {}
  /// `is_recomputed`: the device has a forward pass of the block to do before the first gradient.
  virtual void before_gradients(int64_t /*block*/, bool /*is_recomputed*/) {}
  virtual void after_backward(int64_t /*block*/) {}
};

/// Runs every block of a model, so that recomputation and parameter sharding have one seam. Where gradients are off the
/// block is called directly, between its forward hooks. Otherwise one autograd node stands for the block: it keeps
/// either the block's input alone (recompute) or its inner graph; of inputs and outputs that graph keeps what its own
/// nodes do. kSelected keeps that graph too, but for what blocks themselves leave out of it, the widest part of a layer
/// (ForwardContext::recomputes_mlp).
class BlockRunner {
 public:
  enum class Keep { kGraph, kInput, kSelected };

  explicit BlockRunner(Keep keep = Keep::kGraph, BlockHooks* hooks = nullptr) : keep_(keep), hooks_(hooks) {}

  /// Outputs of `block`; tensors that are not of a floating type pass without gradient. The outputs always require a
  /// gradient where gradients are on, so that a frozen embedding cannot cut the parameters behind it from the graph.
  /// `rebuild`: what a recomputation calls in place of `block`; it makes the same graph, but the values of its outputs
  /// are not read, and need not be right.
  std::vector<at::Tensor> run(int64_t index, const Block& block, const std::vector<at::Tensor>& inputs,
                              const Block& rebuild = nullptr) const;

  Keep keep() const { return keep_; }
  BlockHooks* hooks() const { return hooks_; }

 private:
  Keep keep_;
  BlockHooks* hooks_;
};

}  // namespace dsft::nn

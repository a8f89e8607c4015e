#include "train/sharding_hooks.h"

#include "base/error.h"
#include "lora/adapters.h"

namespace dsft::train {

std::unique_ptr<zero::ParameterShards> shard_parameters(const model::CausalLm& model,
                                                        const zero::ShardedOptimizer& optimizer,
                                                        comm::Communicator& communicator,
                                                        const std::optional<zero::HostShare>& offloads) {
  if (communicator.size() == 1 && !offloads) return nullptr;
  std::vector<zero::FrozenParameter> frozen;
  for (const auto& [name, parameter] : model::named_parameters_of(model))
    if (!parameter.requires_grad()) frozen.push_back({parameter, model.block_of(name)});
  auto shards =
      std::make_unique<zero::ParameterShards>(model.num_blocks(), frozen, optimizer.buffers(), communicator, offloads);
  if (model.has_tied_head()) shards->share(model.num_blocks() - 1, 0);
  return shards;
}

// Blocks own the gradients of their weights and adapters; a tied embedding (block 0) gets its last part with the head's
// and is left to the end of the pass.
ShardingHooks::ShardingHooks(const model::CausalLm& model, zero::ShardedOptimizer& optimizer,
                             zero::ParameterShards* shards, GatherTime gather_time)
    : optimizer_(optimizer), shards_(shards), gather_time_(gather_time) {
  const std::vector<lora::TrainableTensor> trainable = lora::trainable_tensors(model);
  for (int64_t block = 0; block < model.num_blocks(); ++block) {
    indices_.emplace_back();
    const std::vector<std::string> modules = model.block_modules(block);
    for (const lora::TrainableTensor& item : trainable) {
      if (!model::is_inside(item.name, modules)) continue;
      indices_.back().push_back(optimizer.index_of(item.tensor));
      DSFT_CHECK(indices_.back().back() >= 0, item.name, " is trained, and the optimizer does not have it");
    }
  }
  first_with_backward_ = indices_.front().empty() ? 1 : 0;  // a frozen embedding has no backward pass
  if (model.has_tied_head()) tied_.swap(indices_.front());
}

void ShardingHooks::gather(int64_t block, int64_t next) {
  if (shards_) shards_->begin_block(block, gather_time_ == GatherTime::kBlockAhead ? next : -1);
}

void ShardingHooks::before_forward(int64_t block) {
  gather(block, is_last(block) ? -1 : block + 1);
}

void ShardingHooks::after_forward(int64_t block) {
  if (shards_) shards_->end_block(block, /*is_needed_next=*/is_last(block));
}

void ShardingHooks::before_backward(int64_t block) {
  gather(block, block > first_with_backward_ ? block - 1 : -1);
}

// A recomputation has given the reductions of the block behind this one time to end, and what they read, where that is
// there for a block's pass alone, is in the way of what is made now. Without one they run beside this block's pass, as
// they do beside the embedding's, which is a lookup.
void ShardingHooks::before_gradients(int64_t block, bool is_recomputed) {
  if (is_recomputed && block > 0 && !optimizer_.has_stable_gradients()) optimizer_.finish_reductions();
  optimizer_.gradients_begin(indices_[static_cast<size_t>(block)]);
  if (is_last(block)) optimizer_.gradients_begin(tied_);
}

void ShardingHooks::after_backward(int64_t block) {
  if (shards_) shards_->end_block(block, /*is_needed_next=*/false);
  const std::vector<int64_t>& indices = indices_[static_cast<size_t>(block)];
  if (!indices.empty()) optimizer_.gradients_final(indices);
}

}  // namespace dsft::train

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "model/causal_lm.h"
#include "nn/block_runner.h"
#include "zero/parameter_shards.h"
#include "zero/sharded_optimizer.h"

namespace dsft::train {

/// Stage 3: shards the parameters of a model that the optimizer, which has its trainable tensors, does not have, and
/// gathers all by blocks. `offloads`: slices lie in host memory, the optimizer's too. Null where there is one rank and
/// nothing is offloaded. Collective.
std::unique_ptr<zero::ParameterShards> shard_parameters(const model::CausalLm& model,
                                                        const zero::ShardedOptimizer& optimizer,
                                                        comm::Communicator& communicator,
                                                        const std::optional<zero::HostShare>& offloads = {});

/// When the parameters of a block are gathered at stage 3.
enum class GatherTime {
  kBlockAhead,  ///< while the block before it runs
  kOnUse,       ///< when it runs: overlap_comm is false
};

/// What sharding does around blocks: starts the reduction of a block's gradients, those of its adapters included, while
/// the blocks before it still run backward, and gathers the parameters of `shards` (null: none).
class ShardingHooks final : public nn::BlockHooks {
 public:
  /// The optimizer has the model's trainable tensors. All outlive the hooks.
  ShardingHooks(const model::CausalLm& model, zero::ShardedOptimizer& optimizer, zero::ParameterShards* shards,
                GatherTime gather_time = GatherTime::kBlockAhead);

  void before_forward(int64_t block) override;
  void after_forward(int64_t block) override;
  void before_backward(int64_t block) override;
  void before_gradients(int64_t block, bool is_recomputed) override;
  void after_backward(int64_t block) override;

 private:
  void gather(int64_t block, int64_t next);
  bool is_last(int64_t block) const { return static_cast<size_t>(block) + 1 == indices_.size(); }

  zero::ShardedOptimizer& optimizer_;
  zero::ParameterShards* shards_;
  GatherTime gather_time_;
  int64_t first_with_backward_ = 0;
  std::vector<std::vector<int64_t>> indices_;  // of the optimizer's parameters, by block
  std::vector<int64_t> tied_;                  // of an embedding whose weight is the head's
};

}  // namespace dsft::train

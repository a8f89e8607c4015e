#include "train/sharding_hooks.h"

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "comm/thread_ranks.h"
#include "train/tiny_run.h"

using namespace dsft;

namespace {

/// The blocks whose parameters are there, as digits.
std::string blocks_in_memory(const model::CausalLm& lm) {
  std::vector<bool> is_there(static_cast<size_t>(lm.num_blocks()));
  for (const auto& [name, parameter] : model::named_parameters_of(lm)) {
    if (parameter.storage().unsafeGetStorageImpl()->data() != nullptr)
      is_there[static_cast<size_t>(lm.block_of(name))] = true;
  }
  std::string blocks;
  for (size_t block = 0; block < is_there.size(); ++block)
    if (is_there[block]) blocks += std::to_string(block);
  return blocks;
}

std::string span_of(int64_t first, int64_t last) {
  std::string blocks;
  for (int64_t block = first; block <= last; ++block) blocks += std::to_string(block);
  return blocks;
}

}  // namespace

TEST_CASE("Stage 3 gathers a block ahead, or, with overlap_comm off, when it runs", "[train]") {
  for (const auto gather_time : {train::GatherTime::kBlockAhead, train::GatherTime::kOnUse}) {
    const int64_t ahead = gather_time == train::GatherTime::kBlockAhead ? 1 : 0;
    comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
      const auto lm = test::load_tiny_model("llama_plain");
      std::vector<zero::TrainableParameter> parameters;
      for (const auto& [name, parameter] : model::named_parameters_of(*lm)) {
        parameter.requires_grad_(true);
        parameters.push_back({name, parameter, true, false, lm->block_of(name)});
      }
      zero::OptimizerOptions options;
      options.stage = 3;
      zero::ShardedOptimizer optimizer(std::move(parameters), options, communicator);
      const auto shards = train::shard_parameters(*lm, optimizer, communicator);
      train::ShardingHooks hooks(*lm, optimizer, shards.get(), gather_time);
      const int64_t last = lm->num_blocks() - 1;
      DSFT_CHECK(blocks_in_memory(*lm).empty(), "slices alone at first");
      for (int64_t block = 0; block <= last; ++block) {
        hooks.before_forward(block);
        const std::string there = blocks_in_memory(*lm), expected = span_of(block, std::min(last, block + ahead));
        DSFT_CHECK(there == expected, "forward, block ", block, ": ", there, " in place of ", expected);
        hooks.after_forward(block);
      }
      for (int64_t block = last; block >= 0; --block) {
        hooks.before_backward(block);
        const std::string there = blocks_in_memory(*lm), expected = span_of(std::max<int64_t>(0, block - ahead), block);
        DSFT_CHECK(there == expected, "backward, block ", block, ": ", there, " in place of ", expected);
        hooks.after_backward(block);
      }
    });
  }
}

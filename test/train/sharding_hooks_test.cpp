#include "train/sharding_hooks.h"

#include <atomic>

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

/// Requires that all parameters are there before its passes, or hardly any and it is given what gathers them.
class FindsParameters final : public train::Evaluation {
 public:
  FindsParameters(bool runs_by_blocks, std::atomic<int>& num_runs)
      : runs_by_blocks_(runs_by_blocks), num_runs_(num_runs) {}
  std::string name() const override { return "loss"; }
  bool runs_by_blocks() const override { return runs_by_blocks_; }
  std::optional<std::map<std::string, double>> run(model::CausalLm& lm, comm::Communicator&,
                                                   const train::EvaluationMoment& moment) override {
    nn::BlockHooks* const hooks = moment.hooks;
    const std::string there = blocks_in_memory(lm);
    // an update has the first block gathered behind it
    const bool is_as_it_should_be =
        runs_by_blocks_ ? there.empty() || there == "0" : there == span_of(0, lm.num_blocks() - 1);
    DSFT_CHECK(is_as_it_should_be && (hooks != nullptr) == runs_by_blocks_, "blocks ", there, " are there");
    ++num_runs_;
    if (!hooks) return std::map<std::string, double>{};
    const torch::NoGradGuard no_grad;
    const nn::BlockRunner runner(nn::BlockRunner::Keep::kGraph, hooks);
    const Batch batch = make_batch({{{1, 2, 3}, {-100, 2, 3}, 0}}, 0);
    lm.logits(lm.hidden_states(batch, runner, nullptr), runner);
    return std::map<std::string, double>{{"eval_loss", 1.0}};
  }

 private:
  bool runs_by_blocks_;
  std::atomic<int>& num_runs_;
};

}  // namespace

TEST_CASE("At stage 3 an evaluation gathers by blocks, or finds all parameters, and leaves slices alone", "[train]") {
  std::atomic<int> num_runs = 0;
  test::Setting setting;
  setting.trained = test::Trained::kAll;
  setting.stage = 3;
  setting.max_steps = 2;
  setting.configure = [](train::TrainingConfig& config) {
    config.eval_strategy = train::EvalStrategy::kSteps;
    config.eval_steps = 1;
  };
  setting.amend = [&](train::Job& job) {
    for (const bool runs_by_blocks : {true, false, true})  // behind one another
      job.evaluations.push_back(std::make_unique<FindsParameters>(runs_by_blocks, num_runs));
  };
  const test::TempDir output;
  const auto rows = std::make_shared<test::MemoryStore>(setting.num_rows, test::kVocabSize);
  comm::run_thread_ranks(
      2, [&](comm::Communicator& communicator) { test::train_rank(setting, rows, communicator, output.path()); });
  CHECK(num_runs == 2 * 2 * 3);
}

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

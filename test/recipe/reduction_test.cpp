// Gradients are reduced block by block while the last micro-batch runs backward.
#include <algorithm>

#include "catch_amalgamated.hpp"
#include "comm/single_process_communicator.h"
#include "comm/thread_ranks.h"
#include "lora/adapters.h"
#include "loss/loss.h"
#include "recipe/build_parts.h"
#include "support/tiny_model.h"
#include "train/sharding_hooks.h"

using namespace dsft;

namespace {

using Events = std::vector<std::string>;

/// Writes down when it is waited for.
class RecordedWork final : public comm::Work {
 public:
  RecordedWork(std::unique_ptr<comm::Work> inner, Events& events) : inner_(std::move(inner)), events_(events) {}
  void wait() override {
    events_.push_back("wait");
    inner_->wait();
  }

 private:
  std::unique_ptr<comm::Work> inner_;
  Events& events_;
};

/// Writes down when a reduction starts, and when one by slices is waited for.
class RecordingCommunicator final : public comm::Communicator {
 public:
  RecordingCommunicator(comm::Communicator& inner, Events& events) : inner_(inner), events_(events) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::unique_ptr<comm::Work> start_all_reduce(at::Tensor& tensor, comm::ReduceOp op) override {
    events_.push_back("reduce");
    return inner_.start_all_reduce(tensor, op);
  }
  std::unique_ptr<comm::Work> start_reduce_scatter(at::Tensor& output, const at::Tensor& input) override {
    events_.push_back("reduce");
    return std::make_unique<RecordedWork>(inner_.start_reduce_scatter(output, input), events_);
  }
  std::unique_ptr<comm::Work> start_all_gather(at::Tensor& output, const at::Tensor& input) override {
    return inner_.start_all_gather(output, input);
  }
  std::unique_ptr<comm::Work> start_broadcast(at::Tensor& tensor, int root) override {
    return inner_.start_broadcast(tensor, root);
  }
  void barrier() override { inner_.barrier(); }
  std::unique_ptr<comm::Communicator> split(int color, int key) override { return inner_.split(color, key); }
  void abort(int exit_code, const std::string& reason) noexcept override { inner_.abort(exit_code, reason); }

 private:
  comm::Communicator& inner_;
  Events& events_;
};

/// Writes down when a block begins its backward pass, before the hooks under test.
class RecordingHooks final : public nn::BlockHooks {
 public:
  RecordingHooks(nn::BlockHooks& inner, Events& events) : inner_(inner), events_(events) {}
  void before_backward(int64_t block) override {
    events_.push_back("block " + std::to_string(block));
    inner_.before_backward(block);
  }
  void before_gradients(int64_t block, bool is_recomputed) override {
    inner_.before_gradients(block, is_recomputed);
    events_.push_back("pass " + std::to_string(block));
  }
  void after_backward(int64_t block) override { inner_.after_backward(block); }

 private:
  nn::BlockHooks& inner_;
  Events& events_;
};

lora::LoraConfig settings_of(const std::vector<std::string>& targets, const std::vector<std::string>& saved) {
  lora::LoraConfig config;
  config.r = 4;
  config.target_modules = {.kind = lora::TargetModules::Kind::kNames, .names = targets, .regex = ""};
  config.modules_to_save = saved;
  return config;
}

struct Trained {
  Events events;  ///< of the last micro-batch
  std::vector<at::Tensor> weights;
};

/// Two short documents; without torch's generator, which the threads of ranks would share.
std::vector<Document> make_documents(int64_t seed) {
  std::vector<Document> documents(2);
  for (int64_t d = 0; d < 2; ++d) {
    for (int64_t i = 0; i < 9; ++i) documents[d].ids.push_back(static_cast<int32_t>((seed * 31 + d * 17 + i * 7) % 97));
    documents[d].labels = documents[d].ids;
  }
  return documents;
}

/// Two updates of two micro-batches each; without `in_blocks` everything is reduced after the pass.
Trained run_updates(comm::Communicator& communicator, const std::string& name, const lora::LoraConfig& config,
                    bool in_blocks) {
  Trained trained;
  auto lm = test::load_tiny_model(name);
  recipe::attach_lora(*lm, config, "base", 7);
  RecordingCommunicator recording(communicator, trained.events);
  recipe_config::RecipeConfig recipe;
  const Logger logger(communicator.rank(), /*is_quiet=*/true);
  train::RunContext context{recording, at::Device(at::kCPU), 42, "", logger};
  const auto optimizer = recipe::build_optimizer(recipe, /*schedule=*/{}, *lm, context);
  train::ShardingHooks reduction(*lm, *optimizer, /*shards=*/nullptr);
  RecordingHooks hooks(reduction, trained.events);
  const nn::BlockRunner runner(nn::BlockRunner::Keep::kGraph, in_blocks ? &hooks : nullptr);
  const loss::CausalLmLoss causal;
  const at::Tensor rates = at::full({1}, 0.01, at::kDouble);
  for (int update = 0; update < 2; ++update) {
    for (int part = 0; part < 2; ++part) {
      if (part == 1) trained.events.clear();
      const Batch batch = make_batch(make_documents(4 * update + 2 * part + communicator.rank()), 0);
      const at::Tensor hidden = lm->hidden_states(batch, runner, nullptr);
      optimizer->backward(causal.compute(*lm, hidden, batch, runner, nullptr).terms[0].value / 32, part == 1);
    }
    optimizer->clip_and_step(rates);
  }
  for (const auto& item : lora::trainable_tensors(*lm)) trained.weights.push_back(item.tensor.detach().clone());
  return trained;
}

}  // namespace

TEST_CASE("Adapters are reduced as soon as their block is through, like weights", "[recipe]") {
  const auto communicator = comm::make_single_process_communicator();
  SECTION("adapters in the layers: a block's reduction starts before the block in front of it runs backward") {
    const Trained trained = run_updates(*communicator, "llama_plain", settings_of({"q_proj", "down_proj"}, {}), true);
    const Events expected = {"block 3", "pass 3", "block 2", "pass 2", "reduce", "block 1", "pass 1", "reduce"};
    CHECK(Events(trained.events.begin(), trained.events.begin() + 8) == expected);
  }
  SECTION("an adapter on the head of its own, and a saved embedding that was tied") {
    const Trained trained =
        run_updates(*communicator, "qwen3", settings_of({"q_proj", "lm_head"}, {"embed_tokens"}), true);
    const Events expected = {"block 3", "pass 3", "reduce", "block 2", "pass 2", "reduce",
                             "block 1", "pass 1", "reduce", "block 0", "pass 0", "reduce"};
    CHECK(Events(trained.events.begin(), trained.events.begin() + 12) == expected);
  }
}

TEST_CASE("Reducing block by block gives the bits of reducing at the end", "[recipe]") {
  const auto config =
      GENERATE(settings_of({"q_proj", "down_proj"}, {}), settings_of({"q_proj", "lm_head"}, {"embed_tokens"}),
               settings_of({"k_proj"}, {"lm_head"}));
  std::vector<Trained> in_blocks(2), at_end(2);
  comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
    in_blocks[communicator.rank()] = run_updates(communicator, "qwen3", config, true);
    at_end[communicator.rank()] = run_updates(communicator, "qwen3", config, false);
  });
  for (size_t i = 0; i < at_end[0].weights.size(); ++i) {
    CHECK(torch::equal(in_blocks[0].weights[i], at_end[0].weights[i]));
    CHECK(torch::equal(in_blocks[1].weights[i], at_end[0].weights[i]));
  }
}

TEST_CASE("What reductions by slices read goes behind a recomputation, and beside a pass without one", "[recipe]") {
  const auto keep = GENERATE(nn::BlockRunner::Keep::kInput, nn::BlockRunner::Keep::kGraph);
  const int64_t stage = GENERATE(1, 2);
  INFO((keep == nn::BlockRunner::Keep::kInput ? "recomputed" : "kept") << ", stage " << stage);
  std::vector<Events> events(2);
  comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
    Events& own = events[static_cast<size_t>(communicator.rank())];
    RecordingCommunicator recording(communicator, own);
    auto lm = test::load_tiny_model("llama_plain");
    recipe_config::RecipeConfig recipe;
    recipe.zero.stage = stage;
    for (const auto& [name, parameter] : model::named_parameters_of(*lm)) parameter.requires_grad_(true);
    const Logger logger(communicator.rank(), /*is_quiet=*/true);
    train::RunContext context{recording, at::Device(at::kCPU), 42, "", logger};
    const auto optimizer = recipe::build_optimizer(recipe, /*schedule=*/{}, *lm, context);
    train::ShardingHooks sharding(*lm, *optimizer, /*shards=*/nullptr);
    RecordingHooks hooks(sharding, own);
    const nn::BlockRunner runner(keep, &hooks);
    const loss::CausalLmLoss causal;
    const Batch batch = make_batch(make_documents(communicator.rank()), 0);
    const at::Tensor hidden = lm->hidden_states(batch, runner, nullptr);
    optimizer->backward(causal.compute(*lm, hidden, batch, runner, nullptr).terms[0].value / 32, true);
  });
  const auto waits_between = [](const Events& all, const std::string& from, const std::string& to) {
    return std::count(std::find(all.begin(), all.end(), from), std::find(all.begin(), all.end(), to), "wait");
  };
  for (const Events& all : events) {
    INFO(Catch::StringMaker<Events>::convert(all));
    const bool goes = stage == 2 && keep == nn::BlockRunner::Keep::kInput;
    for (const std::string block : {"2", "1"})
      CHECK(waits_between(all, "block " + block, "pass " + block) == (goes ? 1 : 0));
    CHECK(waits_between(all, "block 3", "pass 3") == 0);
    CHECK(waits_between(all, "block 0", "pass 0") == 0);
  }
}

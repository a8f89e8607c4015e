// The reference of the KL term: what it scores, how it follows the policy, and what is kept of it.
#include "rl/reference_policy.h"

#include "catch_amalgamated.hpp"
#include "rl/policy_scores.h"
#include "support/require_error.h"
#include "train/tiny_run.h"

using namespace dsft;
using namespace dsft::test;

namespace {

constexpr double kAlpha = 0.3;

/// A tiny model whose parameters an optimizer has taken, at a stage.
struct TinyPolicy {
  std::shared_ptr<model::CausalLm> lm = load_tiny_model("qwen3");  // its embeddings are tied
  std::unique_ptr<zero::ShardedOptimizer> optimizer;
  std::unique_ptr<zero::ParameterShards> shards;
  std::unique_ptr<nn::BlockHooks> hooks;
  comm::Communicator& ranks;

  TinyPolicy(Trained trained, int64_t stage, comm::Communicator& communicator) : ranks(communicator) {
    choose_trainable(*lm, {.trained = trained, .dropout = 0});
    std::vector<zero::TrainableParameter> parameters;
    for (const auto& item : lora::trainable_tensors(*lm))
      parameters.push_back({item.name, item.tensor, true, item.is_adapter, lm->block_of(item.name)});
    zero::OptimizerOptions options;
    options.stage = stage;
    optimizer = std::make_unique<zero::ShardedOptimizer>(parameters, options, communicator);
    if (stage == 3) shards = train::shard_parameters(*lm, *optimizer, communicator);
    hooks = std::make_unique<train::ShardingHooks>(*lm, *optimizer, shards.get());
  }

  /// Adds a number to all that is trained, as an update would change it.
  void move(double by) const {
    ranks.barrier();  // no rank gathers any more
    const torch::NoGradGuard no_grad;
    checkpoint::NamedTensors trained;
    for (auto& item : lora::trainable_tensors(*lm)) trained.emplace_back(item.name, item.tensor);
    for (const checkpoint::TensorSlice& slice : checkpoint::own_slices(trained, shards.get())) slice.values.add_(by);
  }
  at::Tensor score(const Batch& batch) const {
    at::Tensor scores = rl::score_policy(*lm, batch, 1.0, hooks.get()).log_probs.clone();
    if (shards) shards->end_passes();
    return scores;
  }
  at::Tensor score_by(rl::ReferencePolicy& reference, const Batch& batch) const {
    at::Tensor scores;
    reference.while_in_force([&] { scores = score(batch); });
    return scores;
  }
};

/// What one process says of a batch: at first, moved by 0.01, and by the mixture of both.
struct Expected {
  at::Tensor first, moved, mixed;
};

Expected expected_scores(Trained trained, const Batch& batch) {
  const auto communicator = comm::make_single_process_communicator();
  Expected expected;
  const TinyPolicy policy(trained, 0, *communicator);
  expected.first = policy.score(batch);
  policy.move(0.01);
  expected.moved = policy.score(batch);
  policy.move(-0.01 + kAlpha * 0.01);
  expected.mixed = policy.score(batch);
  return expected;
}

bool are_near(const at::Tensor& a, const at::Tensor& b) {
  return at::allclose(a, b, /*rtol=*/0, /*atol=*/2e-5);
}

using Parts = std::vector<std::vector<zero::NamedState>>;

// A checkpoint's content.
zero::SavedState saved(const Parts& of_ranks) {
  std::vector<zero::NamedState> all;
  for (const auto& part : of_ranks) all.insert(all.end(), part.begin(), part.end());
  return zero::SavedState(zero::stored_in_memory(all));
}

}  // namespace

TEST_CASE("A reference scores as the policy it was made of, and gives its place back", "[rl]") {
  const auto trained = GENERATE(Trained::kAll, Trained::kSavedHead, Trained::kLora);
  const auto [num_ranks, stage] = GENERATE(table<int, int64_t>({{1, 0}, {2, 0}, {2, 2}, {2, 3}}));
  CAPTURE(static_cast<int>(trained), num_ranks, stage);
  const Batch batch = make_batch(random_documents({9, 14, 20}, kVocabSize, 3), 0);
  const Expected expected = expected_scores(trained, batch);
  REQUIRE_FALSE(are_near(expected.first, expected.moved));
  std::vector<std::vector<int>> passed(static_cast<size_t>(num_ranks));
  Parts states(static_cast<size_t>(num_ranks));
  const auto run = [&](comm::Communicator& communicator) {
    const auto rank = static_cast<size_t>(communicator.rank());
    const TinyPolicy policy(trained, stage, communicator);
    rl::ReferencePolicy reference(rl::ReferenceKind::kCopy, policy.lm, policy.shards.get(), communicator);
    const auto check = [&](bool is_true) { passed[rank].push_back(is_true); };
    check(are_near(policy.score_by(reference, batch), expected.first));
    policy.move(0.01);
    const at::Tensor before = policy.score(batch);
    check(are_near(before, expected.moved));
    check(are_near(policy.score_by(reference, batch), expected.first));
    check(at::equal(policy.score(batch), before));
    reference.follow(kAlpha);
    check(are_near(policy.score_by(reference, batch), expected.mixed));
    check(at::equal(policy.score(batch), before));
    for (const zero::NamedState& item : reference.state()) states[rank].push_back({item.name, item.tensor.clone()});
  };
  if (num_ranks == 1)
    run(*comm::make_single_process_communicator());
  else
    comm::run_thread_ranks(num_ranks, run);
  for (const auto& of_rank : passed) CHECK(of_rank == std::vector<int>(6, 1));

  // one process, and two at stage 3, continue from what these ranks saved
  std::vector<int> are_same(2);
  const auto continue_run = [&](comm::Communicator& communicator, int64_t at_stage) {
    const TinyPolicy policy(trained, at_stage, communicator);
    rl::ReferencePolicy reference(rl::ReferenceKind::kCopy, policy.lm, policy.shards.get(), communicator);
    reference.restore("grpo.sync_ref_model", saved(states));
    return are_near(policy.score_by(reference, batch), expected.mixed) && are_near(policy.score(batch), expected.first);
  };
  CHECK(continue_run(*comm::make_single_process_communicator(), 0));
  comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
    are_same[static_cast<size_t>(communicator.rank())] = continue_run(communicator, 3);
  });
  CHECK(are_same == std::vector<int>{1, 1});
}

TEST_CASE("Of a new adapter the reference is the model without it, and nothing is kept", "[rl]") {
  const auto communicator = comm::make_single_process_communicator();
  const Batch batch = make_batch(random_documents({9, 14}, kVocabSize, 3), 0);
  const TinyPolicy policy(Trained::kLora, 0, *communicator);
  const at::Tensor first = policy.score(batch);
  rl::ReferencePolicy reference(rl::ReferenceKind::kAdapterOff, policy.lm, nullptr, *communicator);
  policy.move(0.01);
  CHECK(are_near(policy.score_by(reference, batch), first));
  CHECK_FALSE(are_near(policy.score(batch), first));
  CHECK(reference.state().empty());
}

TEST_CASE("A reference follows every so many updates, in bf16 with the roundings of TRL's two operations", "[rl]") {
  const auto communicator = comm::make_single_process_communicator();
  const auto lm = load_tiny_model("qwen3");
  for (at::Tensor& parameter : lm->parameters()) parameter.set_data(parameter.to(at::kBFloat16));
  choose_trainable(*lm, {.trained = Trained::kAll});
  const auto reference = std::make_shared<rl::ReferencePolicy>(rl::ReferenceKind::kCopy, lm, nullptr, *communicator);
  rl::ReferenceSync sync(reference, 0.6, 2);
  const at::Tensor weight = lora::trainable_tensors(*lm).front().tensor;
  at::Tensor expected = weight.detach().clone();
  for (int64_t step = 1; step <= 5; ++step) {
    {
      const torch::NoGradGuard no_grad;
      at::Tensor(weight).mul_(1.1);
    }
    train::StepReport report;
    report.step = step;
    sync.after_update(report);
    if (step % 2 == 0) expected = (expected * 0.4).add(weight.detach(), 0.6);
    CHECK(at::equal(sync.state().front().tensor.view(-1), expected.view(-1)));
  }
}

TEST_CASE("A saved reference of another model is refused", "[rl]") {
  const auto communicator = comm::make_single_process_communicator();
  const TinyPolicy policy(Trained::kAll, 0, *communicator);
  rl::ReferencePolicy reference(rl::ReferenceKind::kCopy, policy.lm, nullptr, *communicator);
  std::vector<zero::NamedState> state = reference.state();
  state.pop_back();
  require_error(ErrorKind::kCheckpoint, {"grpo.sync_ref_model", "missing"},
                [&] { reference.restore("grpo.sync_ref_model", saved({state})); });
}

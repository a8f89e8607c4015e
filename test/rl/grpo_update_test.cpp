// Updates of a policy: however their rows are laid out, they are the same.
#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "rl/entropy_mask.h"
#include "rl/grpo_loss.h"
#include "rl/policy_scores.h"
#include "train/tiny_run.h"
#include "train/training_step.h"

using namespace dsft;
using namespace dsft::test;

namespace {

constexpr int64_t kNumUpdates = 3;

/// Sampled rows, and what was kept of them.
struct Rollouts {
  std::vector<Document> documents = random_documents({9, 14, 20, 6, 11, 17}, kVocabSize, 3);
  std::vector<PolicyRow> rows = {{1.1f}, {-0.7f}, {0.3f, /*is_left_out=*/true}, {-1.2f}, {0.9f}, {0.0f}};
  std::vector<at::Tensor> old, reference;  // of each document

  explicit Rollouts(model::CausalLm& lm) {
    for (const Document& document : documents) {
      const Batch batch = make_batch({document}, 0).to(lm.device());
      const at::Tensor own = rl::score_policy(lm, batch, 0.9).log_probs.cpu();
      old.push_back(own + torch::randn_like(own) * 0.3);
      reference.push_back(own + torch::randn_like(own) * 0.3);
    }
  }

  Batch batch_of(size_t first, size_t last) const {
    const auto part = [&](const auto& list) {
      return std::decay_t<decltype(list)>(list.begin() + static_cast<int64_t>(first),
                                          list.begin() + static_cast<int64_t>(last));
    };
    Batch batch = make_batch(part(documents), 0);
    set_policy_rows(batch, part(rows));
    batch.policy->old_log_probs = torch::cat(part(old));
    batch.policy->reference_log_probs = torch::cat(part(reference));
    return batch;
  }
};

/// How an update is laid out over micro-batches and ranks.
struct Layout {
  std::vector<std::vector<Batch>> of_ranks;
  std::optional<train::GraphLimits> graphs = {};
  bool recompute = false;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  double learning_rate = 1e-3;
};

/// A few updates of the same rows; one rank's numbers.
std::vector<train::StepNumbers> run_rank(const rl::GrpoConfig& config, const Layout& layout,
                                         comm::Communicator& communicator) {
  const auto lm = load_tiny_model("llama_plain", layout.device);
  for (at::Tensor& parameter : lm->parameters()) parameter.set_data(parameter.to(layout.dtype));
  choose_trainable(*lm, {.trained = Trained::kAll});
  const rl::GrpoLoss loss(config, layout.device);
  std::vector<zero::TrainableParameter> parameters;
  for (const auto& item : lora::trainable_tensors(*lm))
    parameters.push_back({item.name, item.tensor, true, item.is_adapter});
  zero::OptimizerOptions options;
  options.accumulates = true;
  zero::ShardedOptimizer optimizer(parameters, options, communicator);
  train::TrainingStep step(
      {.model = *lm,
       .loss = loss,
       .optimizer = optimizer,
       .communicator = communicator,
       .learning_rates = torch::full({kNumUpdates}, layout.learning_rate, at::kDouble).to(layout.device)},
      {.keep = layout.recompute ? nn::BlockRunner::Keep::kInput : nn::BlockRunner::Keep::kGraph,
       .graphs = layout.graphs});
  std::vector<train::StepNumbers> numbers;
  for (int64_t u = 0; u < kNumUpdates; ++u)
    numbers.push_back(step.run(layout.of_ranks[static_cast<size_t>(communicator.rank())], u).read(communicator));
  return numbers;
}

std::vector<train::StepNumbers> run_updates(const rl::GrpoConfig& config, const Layout& layout) {
  if (layout.of_ranks.size() == 1) return run_rank(config, layout, *comm::make_single_process_communicator());
  std::vector<std::vector<train::StepNumbers>> numbers(layout.of_ranks.size());
  comm::run_thread_ranks(static_cast<int>(layout.of_ranks.size()), [&](comm::Communicator& communicator) {
    numbers[static_cast<size_t>(communicator.rank())] = run_rank(config, layout, communicator);
  });
  return numbers[0];
}

void check_same(const std::vector<train::StepNumbers>& actual, const std::vector<train::StepNumbers>& expected,
                double bound) {
  REQUIRE(actual.size() == expected.size());
  for (size_t u = 0; u < expected.size(); ++u) {
    INFO("update " << u);
    CHECK(std::abs(actual[u].loss - expected[u].loss) <= bound * std::max(0.1, std::abs(expected[u].loss)));
    CHECK(std::abs(actual[u].grad_norm / expected[u].grad_norm - 1) <= bound);
    REQUIRE(actual[u].metrics.size() == expected[u].metrics.size());
    for (const auto& [name, value] : expected[u].metrics) {
      INFO(name);
      CHECK(std::abs(actual[u].metrics.at(name) - value) <= bound * std::max(1.0, std::abs(value)));
    }
  }
}

rl::GrpoConfig config_of(rl::LossType type) {
  rl::GrpoConfig config;
  config.loss_type = type;
  config.temperature = 0.9;
  config.beta = 0.05;
  config.entropy_coef = 0.01;
  config.top_entropy_quantile = 0.6;
  config.off_policy_mask_threshold = 0.1;
  config.max_completion_length = 20;
  return config;
}

Batch stand_in() {
  Batch batch = make_batch({Document{{0}, {-100}, 0}}, 0);
  batch.is_stand_in = true;
  return batch;
}

/// The rows in batches that end at these rows, with the mask of the highest entropies.
std::vector<Batch> split(const Rollouts& rollouts, model::CausalLm& lm, const rl::GrpoConfig& config,
                         const std::vector<size_t>& ends) {
  std::vector<Batch> batches;
  std::vector<at::Tensor> entropies;
  size_t first = 0;
  for (const size_t last : ends) {
    batches.push_back(rollouts.batch_of(first, last));
    entropies.push_back(rl::score_policy(lm, batches.back().to(lm.device()), config.temperature).entropies);
    first = last;
  }
  rl::mask_low_entropy(batches, entropies, config.top_entropy_quantile, *comm::make_single_process_communicator());
  return batches;
}

}  // namespace

TEST_CASE("Updates of a policy do not depend on micro-batches, ranks, padding or recompute", "[rl]") {
  const auto type = GENERATE(rl::LossType::kGrpo, rl::LossType::kBnpo, rl::LossType::kDrGrpo, rl::LossType::kDapo,
                             rl::LossType::kCispo, rl::LossType::kSapo, rl::LossType::kLuspo, rl::LossType::kVespo);
  rl::GrpoConfig config = config_of(type);
  config.importance_sampling_level =
      GENERATE(rl::ImportanceSamplingLevel::kToken, rl::ImportanceSamplingLevel::kSequence);
  INFO(config::to_word(type) << ", " << config::to_word(config.importance_sampling_level));
  torch::manual_seed(8);
  const auto lm = load_tiny_model("llama_plain");
  const Rollouts rollouts(*lm);
  const auto whole = split(rollouts, *lm, config, {6});
  const auto pieces = split(rollouts, *lm, config, {1, 3, 6});
  const auto expected = run_updates(config, {.of_ranks = {whole}});
  CHECK(expected[0].metrics.contains("entropy_in_loss"));
  check_same(run_updates(config, {.of_ranks = {pieces}}), expected, kBound);
  check_same(run_updates(config, {.of_ranks = {{whole[0]}, {stand_in()}}}), expected, kBound);
  check_same(run_updates(config, {.of_ranks = {{pieces[0], pieces[2]}, {pieces[1], stand_in()}}}), expected, kBound);
  check_same(run_updates(config, {.of_ranks = {pieces}, .graphs = train::GraphLimits()}), expected, kBound);
  check_same(run_updates(config, {.of_ranks = {pieces}, .recompute = true}), expected, kBound);
}

TEST_CASE("On a GPU updates of a policy are those of the CPU, and recorded ones those that are not", "[rl][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const auto type = GENERATE(rl::LossType::kGrpo, rl::LossType::kDapo, rl::LossType::kCispo, rl::LossType::kSapo,
                             rl::LossType::kLuspo, rl::LossType::kVespo);
  rl::GrpoConfig config = config_of(type);
  config.importance_sampling_level =
      GENERATE(rl::ImportanceSamplingLevel::kToken, rl::ImportanceSamplingLevel::kSequence);
  config.entropy_coef = GENERATE(0.0, 0.01);
  INFO(config::to_word(type) << ", " << config::to_word(config.importance_sampling_level));
  torch::manual_seed(8);
  const auto lm = load_tiny_model("llama_plain");
  const Rollouts rollouts(*lm);
  const auto pieces = split(rollouts, *lm, config, {1, 3, 6});
  const auto expected = run_updates(config, {.of_ranks = {pieces}});
  const at::Device gpu(at::kCUDA, 0);
  check_same(run_updates(config, {.of_ranks = {pieces}, .device = gpu}), expected, 1e-4);
  // in bf16, as only such models are recorded; the weights stay, so that no update inherits the rounding of those
  // before
  Layout plain{.of_ranks = {pieces}, .device = gpu, .dtype = at::kBFloat16, .learning_rate = 0}, graphed = plain;
  graphed.graphs = train::GraphLimits();
  const auto actual = run_updates(config, graphed), rounded = run_updates(config, plain);
  for (size_t u = 0; u < rounded.size(); ++u) {
    INFO("update " << u << ", in bf16");
    CHECK(std::abs(actual[u].loss - rounded[u].loss) <= 2e-2 * std::max(0.1, std::abs(rounded[u].loss)));
    CHECK(std::abs(actual[u].grad_norm / rounded[u].grad_norm - 1) <= 5e-2);
    CHECK(std::abs(actual[u].metrics.at("kl") - rounded[u].metrics.at("kl")) <= 2e-2);
    CHECK(std::abs(actual[u].metrics.at("entropy") - rounded[u].metrics.at("entropy")) <= 5e-3);
  }
}

TEST_CASE("An update of which nothing counts has no gradient and is no fault", "[rl]") {
  const auto lm = load_tiny_model("llama_plain");
  Rollouts rollouts(*lm);
  for (PolicyRow& row : rollouts.rows) row.is_left_out = true;
  rl::GrpoConfig config;
  config.loss_type = GENERATE(rl::LossType::kDapo, rl::LossType::kGrpo);
  const auto numbers = run_updates(config, {.of_ranks = {{rollouts.batch_of(0, 6)}}});
  for (const train::StepNumbers& update : numbers) {
    CHECK(update.loss == 0);
    CHECK(update.grad_norm == 0);
    CHECK(update.is_applied);
    CHECK_FALSE(update.metrics.contains("clip_ratio/high_max"));  // no row has a token
  }
  const auto of_nobody = run_updates(config, {.of_ranks = {{stand_in()}, {stand_in()}}});
  CHECK(of_nobody[0].loss == 0);
}

TEST_CASE("On-policy every ratio is 1: nothing is clipped, and grpo's loss is minus the mean advantage", "[rl]") {
  const auto lm = load_tiny_model("llama_plain");
  const Rollouts rollouts(*lm);
  Batch batch = rollouts.batch_of(0, 6);
  batch.policy->old_log_probs = at::Tensor();
  rl::GrpoConfig config;
  config.loss_type = rl::LossType::kGrpo;
  const auto numbers = run_updates(config, {.of_ranks = {{batch}}});
  // 1.1 - 0.7 - 1.2 + 0.9 of 6 rows; the third is left out
  CHECK(std::abs(numbers[0].loss + 0.1 / 6) < 1e-6);
  CHECK(numbers[0].metrics.at("clip_ratio/region_mean") == 0);
  CHECK(numbers[0].metrics.at("clip_ratio/high_max") == 0);
}

TEST_CASE("A row that has failed is none: the update is that of the others", "[rl]") {
  const auto lm = load_tiny_model("llama_plain");
  Rollouts rollouts(*lm);
  rl::GrpoConfig config = config_of(GENERATE(rl::LossType::kGrpo, rl::LossType::kDrGrpo, rl::LossType::kDapo,
                                             rl::LossType::kSapo, rl::LossType::kLuspo, rl::LossType::kVespo));
  config.top_entropy_quantile = 1;
  config.importance_sampling_level =
      GENERATE(rl::ImportanceSamplingLevel::kToken, rl::ImportanceSamplingLevel::kSequence);
  INFO(config::to_word(config.loss_type) << ", " << config::to_word(config.importance_sampling_level));
  rollouts.rows[5] = {0.0f, /*is_left_out=*/false, /*has_failed=*/true};
  const auto with = run_updates(config, {.of_ranks = {{rollouts.batch_of(0, 6)}}});
  check_same(with, run_updates(config, {.of_ranks = {{rollouts.batch_of(0, 5)}}}), kBound);
  check_same(run_updates(config, {.of_ranks = {{rollouts.batch_of(0, 3), rollouts.batch_of(3, 6)}}}), with, kBound);
  for (PolicyRow& row : rollouts.rows) row.has_failed = true;
  for (const train::StepNumbers& update : run_updates(config, {.of_ranks = {{rollouts.batch_of(0, 6)}}})) {
    CHECK(update.loss == 0);
    CHECK(update.grad_norm == 0);
    CHECK(update.is_applied);
  }
}

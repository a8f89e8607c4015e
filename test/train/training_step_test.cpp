// Updates whose micro-batches are padded to a few shapes, each shape recorded as a CUDA graph.
#include "train/training_step.h"

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "train/tiny_run.h"

using namespace dsft;
using namespace dsft::test;

namespace {

/// A model with all that trains it.
struct Training {
  std::shared_ptr<model::CausalLm> lm;
  std::unique_ptr<comm::Communicator> communicator = comm::make_single_process_communicator();
  loss::CausalLmLoss loss;
  std::unique_ptr<zero::ShardedOptimizer> optimizer;
  std::optional<train::TrainingStep> step;

  Training(const Setting& setting, std::optional<train::GraphLimits> graphs, double learning_rate = 5e-3)
      : lm(load_tiny_model(setting.model, setting.device)) {
    for (at::Tensor& parameter : lm->parameters()) parameter.set_data(parameter.to(setting.dtype));
    choose_trainable(*lm, setting);
    std::vector<zero::TrainableParameter> parameters;
    for (const auto& item : lora::trainable_tensors(*lm))
      parameters.push_back({item.name, item.tensor, true, item.is_adapter});
    zero::OptimizerOptions options;
    if (setting.dtype == at::kHalf) options.loss_scaler = optim::LossScalerOptions();
    optimizer = std::make_unique<zero::ShardedOptimizer>(parameters, options, *communicator);
    step.emplace(
        train::StepParts{.model = *lm,
                         .loss = loss,
                         .optimizer = *optimizer,
                         .communicator = *communicator,
                         .learning_rates = torch::full({1}, learning_rate, at::kDouble).to(setting.device)},
        train::StepOptions{.keep = setting.recompute ? nn::BlockRunner::Keep::kInput : nn::BlockRunner::Keep::kGraph,
                           .graphs = graphs});
  }

  train::StepNumbers run(const std::vector<Batch>& micro_batches) {
    return step->run(micro_batches, 1).read(*communicator);
  }
};

/// Two micro-batches for each update, of lengths that share a few shapes; the epoch changes after the sixth.
std::vector<std::vector<Batch>> varying_updates(int64_t count) {
  std::vector<std::vector<Batch>> updates;
  for (int64_t u = 0; u < count; ++u) {
    const int64_t more = u % 3;
    const auto batch = [&](const std::vector<int64_t>& lengths) {
      return make_batch(random_documents(lengths, kVocabSize, 7 + static_cast<uint64_t>(u)), u / 6);
    };
    updates.push_back({batch({9 + more, 14, 20}), batch({30, 25 + 3 * more, 40})});
  }
  return updates;
}

/// Some of these, and then others for so long that they become the common ones.
std::vector<std::vector<Batch>> updates_in_phases() {
  std::vector<std::vector<Batch>> updates = varying_updates(4);
  for (uint64_t u = 0; u < 12; ++u)
    updates.push_back({make_batch(random_documents({60, 50, 60}, kVocabSize, 20 + u), 1),
                       make_batch(random_documents({40, 50, 60, 50}, kVocabSize, 40 + u), 1)});
  return updates;
}

void require_same_numbers(const train::StepNumbers& actual, const train::StepNumbers& expected, double bound) {
  CHECK(std::abs(actual.loss / expected.loss - 1) <= bound);
  CHECK(std::abs(actual.grad_norm / expected.grad_norm - 1) <= bound);
  CHECK(actual.metrics.size() == expected.metrics.size());
  for (const auto& [name, value] : expected.metrics) CHECK(std::abs(actual.metrics.at(name) - value) <= bound);
  CHECK(actual.learning_rate == expected.learning_rate);
  CHECK(actual.is_applied == expected.is_applied);
}

}  // namespace

TEST_CASE("Padding changes neither the loss, the metrics nor a gradient", "[train]") {
  const auto trained = GENERATE(Trained::kLora, Trained::kLoraOnHead, Trained::kSavedHead, Trained::kAll);
  auto lm = load_tiny_model(GENERATE(as<std::string>(), "qwen3", "llama_rope_dynamic", "qwen2_sliding"));
  choose_trainable(*lm, {.trained = trained, .dropout = 0.3});
  const Batch batch = make_batch(random_documents({13, 7, 19, 4}, kVocabSize, 3), 1);
  const Batch padded = pad_batch(batch, padded_shape(batch));
  REQUIRE(padded.num_tokens() > batch.num_tokens());
  REQUIRE(padded.supervised.numel() > batch.supervised.numel());
  const nn::BlockRunner runner;
  const model::TrainingMode mode{42};
  const loss::CausalLmLoss loss;
  CHECK(loss.counts({padded}) == loss.counts({batch}));
  std::vector<loss::LossResult> results;
  std::vector<std::vector<at::Tensor>> gradients;
  for (const Batch& each : {batch, padded}) {
    for (const auto& item : lora::trainable_tensors(*lm)) at::Tensor(item.tensor).mutable_grad() = at::Tensor();
    results.push_back(loss.compute(*lm, lm->hidden_states(each, runner, &mode), each, runner, &mode));
    results.back().terms[0].value.backward();
    gradients.emplace_back();
    for (const auto& item : lora::trainable_tensors(*lm)) gradients.back().push_back(item.tensor.grad());
  }
  const auto value = [&](size_t which) { return results[which].terms[0].value.item<double>(); };
  CHECK(std::abs(value(1) / value(0) - 1) <= kBound);
  CHECK(torch::equal(results[1].metrics[0].value, results[0].metrics[0].value));
  for (size_t i = 0; i < gradients[0].size(); ++i) {
    const double largest = gradients[0][i].abs().max().item<double>();
    CHECK((gradients[1][i] - gradients[0][i]).abs().max().item<double>() <= kBound * largest);
  }
}

TEST_CASE("Updates through the graphs' buffers equal plain ones", "[train]") {
  Setting setting;
  setting.trained = GENERATE(Trained::kLora, Trained::kLoraOnHead, Trained::kAll);
  setting.recompute = GENERATE(true, false);
  setting.dropout = 0.3;
  const size_t max_graphs = GENERATE(1, 2, 32);  // with one or two there is no room for all shapes
  Training plain(setting, std::nullopt), padded(setting, train::GraphLimits{.max_graphs = max_graphs});
  for (const auto& update : updates_in_phases()) require_same_numbers(padded.run(update), plain.run(update), kBound);
}

namespace {

/// Which micro-batches went through the graphs' buffers, and where those are.
class Places {
 public:
  explicit Places(size_t max_graphs) : passes_(at::kCPU, {.max_graphs = max_graphs}) {}

  /// The place of the buffer of a micro-batch of one document; null where it was not padded.
  const void* run(int64_t num_tokens) {
    const void* place = nullptr;
    passes_.run(make_batch(random_documents({num_tokens}, kVocabSize, 3), 0), [&](const Batch& batch) {
      if (batch.num_tokens() != num_tokens) place = batch.ids.const_data_ptr();
    });
    return place;
  }
  /// How many of some micro-batches were padded.
  int64_t run_often(int64_t num_tokens, int64_t times) {
    int64_t padded = 0;
    for (int64_t i = 0; i < times; ++i) padded += run(num_tokens) != nullptr ? 1 : 0;
    return padded;
  }

 private:
  train::GraphedPasses passes_;
};

}  // namespace

TEST_CASE("A shape takes a graph's place when it has come more than twice as often", "[train]") {
  Places places(1);
  CHECK(places.run_often(50, 3) == 3);
  CHECK(places.run_often(100, 6) == 0);
  CHECK(places.run_often(100, 4) == 4);
  CHECK(places.run_often(50, 5) == 0);
}

TEST_CASE("Shapes that come once push out no graph, and one that comes again and again gets one", "[train]") {
  Places places(2);
  const void* first = places.run(50);
  const void* second = places.run(100);
  REQUIRE(first);
  REQUIRE(second);
  for (int64_t num_tokens = 150; num_tokens < 1500; num_tokens += 150) {
    CHECK(places.run(num_tokens) == nullptr);
    CHECK(places.run(50) == first);
  }
  CHECK(places.run(100) == second);
  CHECK(places.run_often(2000, 10) == 6);  // the second had come twice
  CHECK(places.run(50) == first);
}

TEST_CASE("Shapes that come equally often do not take turns", "[train]") {
  Places places(2);
  for (int round = 0; round < 200; ++round) {
    CHECK(places.run_often(50, 1) == 1);
    CHECK(places.run_often(100, 1) == 1);
    CHECK(places.run_often(170, 1) == 0);
  }
}

TEST_CASE("Graphs of what was common long ago give way", "[train]") {
  Places places(1);
  CHECK(places.run_often(50, 1000) == 1000);
  CHECK(places.run_often(100, 200) > 50);
}

TEST_CASE("Large micro-batches and those without a label are not padded", "[train]") {
  const train::GraphedPasses passes(at::kCPU, {.max_tokens = 64});
  CHECK(passes.takes(make_batch(random_documents({20, 44}, kVocabSize, 3), 0)));
  CHECK(!passes.takes(make_batch(random_documents({20, 45}, kVocabSize, 3), 0)));
  CHECK(!passes.takes(make_batch({Document{{0}, {-100}, 0}}, 0)));
}

TEST_CASE("A step tells which micro-batches it records", "[train]") {
  const Batch small = make_batch(random_documents({20, 44}, kVocabSize, 3), 0);
  const Batch large = make_batch(random_documents({20, 45}, kVocabSize, 3), 0);
  const Training plain({}, std::nullopt), graphed({}, train::GraphLimits{.max_tokens = 64});
  CHECK(graphed.step->records(small));
  CHECK(!graphed.step->records(large));
  CHECK(!plain.step->records(small));
}

TEST_CASE("The larger a model's layers, the smaller the micro-batches that are recorded", "[train]") {
  CHECK(train::graph_limits(1'000'000).max_tokens == 4096);
  CHECK(train::graph_limits(int64_t{1} << 25).max_tokens == 4096);
  CHECK(train::graph_limits(int64_t{1} << 26).max_tokens == 2048);
  CHECK(train::graph_limits(int64_t{1} << 28).max_tokens == 512);
}

namespace {

// Its optimizer trains nothing of the model.
train::Job job_of(std::shared_ptr<model::CausalLm> lm) {
  static const auto communicator = comm::make_single_process_communicator();
  train::Job job;
  job.model = std::move(lm);
  job.loss = std::make_unique<loss::CausalLmLoss>();
  job.optimizer = std::make_unique<zero::ShardedOptimizer>(
      std::vector<zero::TrainableParameter>{{"weight", at::zeros({1}).set_requires_grad(true), true}},
      zero::OptimizerOptions(), *communicator);
  return job;
}

}  // namespace

TEST_CASE("A recipe's settings become those of its updates", "[train]") {
  const train::Job job = job_of(load_tiny_model("qwen3"));
  train::TrainingConfig config;
  CHECK(train::step_options(job, config).keep == nn::BlockRunner::Keep::kGraph);
  CHECK(!train::step_options(job, config).graphs);  // the CPU has none
  config.gradient_checkpointing = train::GradientCheckpointing::kTrue;
  CHECK(train::step_options(job, config).keep == nn::BlockRunner::Keep::kInput);
}

TEST_CASE("Ranks of which some record their micro-batches stay equal", "[train]") {
  Setting setting;
  const auto updates = varying_updates(4);
  Training whole(setting, std::nullopt);
  std::vector<train::StepNumbers> expected;
  for (const auto& update : updates) expected.push_back(whole.run(update));
  std::vector<std::vector<train::StepNumbers>> numbers(2);
  comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
    Training ranked(setting, std::nullopt);
    std::vector<zero::TrainableParameter> parameters;
    for (const auto& item : lora::trainable_tensors(*ranked.lm))
      parameters.push_back({item.name, item.tensor, true, item.is_adapter});
    zero::ShardedOptimizer optimizer(parameters, {}, communicator);
    // the first micro-batch of an update has 64 tokens at most, the second more
    train::TrainingStep step({.model = *ranked.lm,
                              .loss = ranked.loss,
                              .optimizer = optimizer,
                              .communicator = communicator,
                              .learning_rates = torch::full({1}, 5e-3, at::kDouble)},
                             {.graphs = train::GraphLimits{.max_tokens = 64}});
    for (const auto& update : updates)
      numbers[communicator.rank()].push_back(step.run({update[communicator.rank()]}, 1).read(communicator));
  });
  for (size_t u = 0; u < updates.size(); ++u) {
    require_same_numbers(numbers[0][u], expected[u], kBound);
    CHECK(numbers[1][u].grad_norm == numbers[0][u].grad_norm);
  }
}

namespace {

Setting gpu_setting(at::ScalarType dtype) {
  Setting setting;
  setting.device = at::Device(at::kCUDA, 0);
  setting.dtype = dtype;
  return setting;
}

}  // namespace

TEST_CASE("On a GPU each replay gives the numbers of a plain step", "[train][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const int variant = GENERATE(0, 1, 2);
  Setting setting = gpu_setting(variant == 2 ? at::kHalf : at::kBFloat16);
  setting.recompute = variant == 0;
  setting.model = variant == 1 ? "qwen2_sliding" : "qwen3";
  setting.trained = GENERATE(Trained::kLora, Trained::kLoraOnHead, Trained::kSavedHead, Trained::kAll);
  INFO(c10::toString(setting.dtype) << ", trained: " << static_cast<int>(setting.trained) << ", " << setting.model
                                    << (setting.recompute ? ", recomputed" : ""));
  const train::GraphLimits limits{.max_graphs = GENERATE(size_t{1}, size_t{2}, size_t{32})};
  INFO("of " << limits.max_graphs << " graphs");
  // the weights stay, so that no update inherits the rounding of those before
  Training plain(setting, std::nullopt, /*learning_rate=*/0), graphed(setting, limits, 0);
  REQUIRE(train::possible_graphs(*graphed.lm, graphed.loss));
  std::vector<std::vector<Batch>> updates = updates_in_phases();
  for (auto& update : varying_updates(9)) updates.push_back(std::move(update));
  for (const auto& update : updates) {
    const train::StepNumbers actual = graphed.run(update), expected = plain.run(update);
    CHECK(std::abs(actual.loss / expected.loss - 1) <= 2e-3);
    CHECK(std::abs(actual.grad_norm / expected.grad_norm - 1) <= 2e-2);
    CHECK(std::abs(actual.metrics.at("mean_token_accuracy") - expected.metrics.at("mean_token_accuracy")) <= 0.02);
    CHECK(actual.is_applied == expected.is_applied);
  }
}

TEST_CASE("On a GPU graphed updates change a run no more than rounding does", "[train][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  Setting setting = gpu_setting(at::kBFloat16);
  setting.trained = GENERATE(Trained::kLora, Trained::kAll);
  setting.recompute = GENERATE(true, false);
  Training plain(setting, std::nullopt), graphed(setting, train::GraphLimits());
  for (const auto& update : varying_updates(12)) require_same_numbers(graphed.run(update), plain.run(update), 0.05);
  CHECK(graphed.optimizer->num_applied_updates() == 12);
}

TEST_CASE("On a GPU nothing in an update makes the host wait", "[train][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  Setting setting = gpu_setting(at::kBFloat16);
  setting.trained = GENERATE(Trained::kLora, Trained::kAll);
  setting.recompute = GENERATE(true, false);
  const auto graphs = GENERATE(std::optional<train::GraphLimits>(), std::optional(train::GraphLimits()));
  Training training(setting, graphs);
  const auto updates = varying_updates(9);
  // libraries may wait when they are used the first time
  for (const auto& update : updates) training.run(update);
  std::vector<train::EnqueuedStep> enqueued;
  {
    const device::WaitsForbidden forbidden;
    for (const auto& update : updates) enqueued.push_back(training.step->run(update, 1));
    CHECK(enqueued.back().read(*training.communicator).is_applied);
    CHECK(enqueued.back().end.seconds_since(enqueued.front().end) > 0);
  }
}

TEST_CASE("Dynamic rotary frequencies and attention by documents are not recorded", "[train][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  Setting setting = gpu_setting(at::kBFloat16);
  setting.model = "llama_rope_dynamic";
  const Training dynamic(setting, std::nullopt);
  CHECK(!train::possible_graphs(*dynamic.lm, dynamic.loss));
  const Training wide(gpu_setting(at::kFloat), std::nullopt);
  CHECK(!train::possible_graphs(*wide.lm, wide.loss));
}

TEST_CASE("On a GPU cuda_graphs and full_determinism decide whether a job's updates are recorded", "[train][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  const Setting setting = gpu_setting(at::kBFloat16);
  const train::Job job = job_of(Training(setting, std::nullopt).lm);
  train::TrainingConfig config;
  const auto graphs = train::step_options(job, config).graphs;
  REQUIRE(graphs);
  CHECK(graphs->max_tokens == train::GraphLimits().max_tokens);
  config.full_determinism = true;
  CHECK(!train::step_options(job, config).graphs);
  config.full_determinism = false;
  config.cuda_graphs = train::CudaGraphs::kFalse;
  CHECK(!train::step_options(job, config).graphs);
}

TEST_CASE("On a GPU a job of large layers records small micro-batches alone", "[train][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  spec::ModelSpec spec = spec::read_model_spec(model_fixture("qwen3"));
  spec.intermediate_size = (int64_t{1} << 25) / spec.hidden_size;  // three matrices of 2^25 weights in a layer
  const train::Job job = job_of(model::build_causal_lm(spec, at::kBFloat16, at::Device(at::kCUDA, 0)));
  const auto graphs = train::step_options(job, {}).graphs;
  REQUIRE(graphs);
  CHECK(graphs->max_tokens > 1300);
  CHECK(graphs->max_tokens <= 4096 / 3);
}

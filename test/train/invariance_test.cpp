// numerics.md: rows, packing, micro-batch split, rank count, recomputation and resuming do not change a run.
#include <cmath>
#include <mutex>

#include "batch/packed_text_source.h"
#include "catch_amalgamated.hpp"
#include "checkpoint/tensor_file.h"
#include "comm/single_process_communicator.h"
#include "comm/thread_ranks.h"
#include "lora/adapters.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"
#include "train/trainer.h"

using namespace dsft;

namespace {

// Random rows in memory.
class MemoryStore final : public data::ExampleStore {
 public:
  MemoryStore(int64_t rows, int64_t vocab_size) {
    std::vector<int64_t> lengths;
    for (int64_t i = 0; i < rows; ++i) lengths.push_back(5 + (i * 7) % 23);
    for (Document& document : test::random_documents(lengths, vocab_size, 5))
      examples_.push_back({document.ids, document.labels});
    for (data::Example& example : examples_) example.labels[0] = data::kIgnored;
  }
  int64_t size() const override { return static_cast<int64_t>(examples_.size()); }
  int64_t length(int64_t row) const override { return static_cast<int64_t>(examples_[row].ids.size()); }
  int64_t num_supervised(int64_t row) const override { return examples_[row].num_supervised(); }
  data::Example read(int64_t row) const override { return examples_[row]; }

 private:
  std::vector<data::Example> examples_;
};

/// What is trained.
enum class Trained { kLora, kLoraOnHead, kSavedHead, kAll };

struct Setting {
  Trained trained = Trained::kLora;
  std::string model = "qwen3";  // its embeddings are tied
  double dropout = 0.05;
  bool packing = false;
  bool recompute = false;
  int64_t batch_size = 4;
  int64_t accumulation = 1;
  int64_t num_rows = 24;
  int64_t max_steps = 20;
  int64_t save_steps = 1000;
  bool resume = false;
  at::ScalarType dtype = at::kFloat;
};

struct Run {
  std::vector<train::StepReport> reports;
  std::vector<at::Tensor> weights;
};

class Recorder final : public train::Observer {
 public:
  explicit Recorder(std::vector<train::StepReport>& reports) : reports_(reports) {}
  void on_step(const train::StepReport& report) override { reports_.push_back(report); }

 private:
  std::vector<train::StepReport>& reports_;
};

// Weight files of the test: the trainable tensors as they are.
void write_weights(const model::CausalLm& lm, const std::filesystem::path& directory) {
  checkpoint::NamedTensors tensors;
  for (const auto& item : lora::trainable_tensors(lm)) tensors.emplace_back(item.name, item.tensor.detach());
  checkpoint::write_tensors(directory / "weights.safetensors", tensors);
}

void read_weights(const model::CausalLm& lm, const std::filesystem::path& directory) {
  torch::NoGradGuard no_grad;
  const auto file = io::SafetensorsFile::open(directory / "weights.safetensors");
  for (auto& item : lora::trainable_tensors(lm))
    item.tensor.copy_(checkpoint::read_tensor(file, *file.find(item.name)));
}

void choose_trainable(model::CausalLm& lm, const Setting& setting) {
  if (setting.trained == Trained::kAll) {
    for (at::Tensor& parameter : lm.parameters()) parameter.requires_grad_(true);
    return;
  }
  lora::LoraConfig config;
  config.r = 4;
  config.lora_alpha = 8;
  config.lora_dropout = setting.dropout;
  if (setting.trained == Trained::kLoraOnHead)
    config.target_modules = {
        .kind = lora::TargetModules::Kind::kNames, .names = {"q_proj", "down_proj", "lm_head"}, .regex = ""};
  if (setting.trained == Trained::kSavedHead) config.modules_to_save = {"lm_head"};
  lora::attach(lm, spec::match_lora_targets(lm.spec(), config), spec::match_modules_to_save(lm.spec(), config), config,
               42);
}

// `rows` are made once for all ranks: drawing them uses torch's generator, which threads would share.
Run train_rank(const Setting& setting, std::shared_ptr<const data::ExampleStore> rows, comm::Communicator& communicator,
               const std::filesystem::path& output_dir) {
  auto lm = test::load_tiny_model(setting.model);
  if (setting.dtype != at::kFloat)
    for (at::Tensor& parameter : lm->parameters()) parameter.set_data(parameter.to(setting.dtype));
  choose_trainable(*lm, setting);
  train::TrainingConfig config;
  config.gradient_checkpointing =
      setting.recompute ? train::GradientCheckpointing::kTrue : train::GradientCheckpointing::kFalse;
  config.save_steps = setting.save_steps;
  config.greater_is_better = false;
  config.metric_for_best_model = "loss";
  if (setting.resume) config.resume_from_checkpoint.kind = train::ResumeFrom::Kind::kNewest;

  Run run;
  const Logger logger(communicator.rank(), /*is_quiet=*/true);
  train::RunContext context{communicator, at::Device(at::kCPU), 42, output_dir, logger};
  train::Job job;
  job.model = lm;
  data::EpochPlanOptions plan;
  plan.packing = setting.packing;
  plan.max_length = 64;
  const StepShape shape{setting.batch_size, setting.accumulation, communicator.rank(), communicator.size(), 1000};
  job.source = std::make_unique<PackedTextSource>(std::move(rows), plan, shape);
  job.loss = std::make_unique<loss::CausalLmLoss>();
  std::vector<zero::TrainableParameter> parameters;
  for (const auto& item : lora::trainable_tensors(*lm))
    parameters.push_back({item.name, item.tensor, true, item.is_adapter});
  zero::OptimizerOptions options;
  if (setting.dtype == at::kHalf) options.loss_scaler = optim::LossScalerOptions();
  job.optimizer = std::make_unique<zero::ShardedOptimizer>(parameters, options, communicator);
  job.schedule = {optim::SchedulerType::kCosine, {}, 5e-3, 3, 40};
  job.max_steps = setting.max_steps;
  job.observers.push_back(std::make_unique<Recorder>(run.reports));
  job.save_weights = [lm](const auto& directory) { write_weights(*lm, directory); };
  job.load_weights = [lm](const auto& directory) { read_weights(*lm, directory); };
  train::Trainer trainer(std::move(job), config, context);
  trainer.run();
  for (const auto& item : lora::trainable_tensors(*lm)) run.weights.push_back(item.tensor.detach().clone());
  return run;
}

constexpr int64_t kVocabSize = 97;  // of the fixture

Run run_training(const Setting& setting, const std::filesystem::path& output_dir) {
  const auto communicator = comm::make_single_process_communicator();
  return train_rank(setting, std::make_shared<MemoryStore>(setting.num_rows, kVocabSize), *communicator, output_dir);
}

Run run_training(const Setting& setting) {
  return run_training(setting, test::TempDir().path());
}

void require_same_curve(const Run& actual, const Run& expected, double bound) {
  REQUIRE(actual.reports.size() == expected.reports.size());
  for (size_t i = 0; i < expected.reports.size(); ++i) {
    INFO("step " << i + 1);
    CHECK(std::abs(actual.reports[i].loss / expected.reports[i].loss - 1) <= bound);
    CHECK(std::abs(actual.reports[i].grad_norm / expected.reports[i].grad_norm - 1) <= bound);
    CHECK(actual.reports[i].learning_rate == expected.reports[i].learning_rate);
    CHECK(actual.reports[i].num_tokens == expected.reports[i].num_tokens);
  }
}

constexpr double kBound = 1e-5;  // numerics.md, fp32, 20 steps

}  // namespace

TEST_CASE("A run learns: its loss falls", "[train]") {
  Setting setting;
  setting.trained = GENERATE(Trained::kLora, Trained::kAll);
  const Run run = run_training(setting);
  REQUIRE(run.reports.size() == 20);
  CHECK(run.reports.back().loss < run.reports.front().loss - 0.2);
  CHECK(run.reports.front().learning_rate == 0);  // warm-up starts at zero
}

TEST_CASE("The micro-batch split does not change a run", "[train]") {
  Setting whole, split;
  whole.trained = split.trained = GENERATE(Trained::kLora, Trained::kAll);
  whole.dropout = split.dropout = GENERATE(0.0, 0.05);
  whole.batch_size = 8;
  split.batch_size = 2;
  split.accumulation = 4;
  require_same_curve(run_training(split), run_training(whole), kBound);
}

TEST_CASE("Recomputation does not change a run by a bit", "[train]") {
  Setting kept, recomputed;
  recomputed.recompute = true;
  kept.trained = recomputed.trained = GENERATE(Trained::kLora, Trained::kAll);
  require_same_curve(run_training(recomputed), run_training(kept), 0);
}

TEST_CASE("Packing does not change a run whose updates hold the same rows", "[train]") {
  Setting rows, packed;
  rows.dropout = packed.dropout = GENERATE(0.0, 0.05);
  rows.batch_size = packed.batch_size = 24;  // an update is an epoch
  packed.packing = true;
  require_same_curve(run_training(packed), run_training(rows), kBound);
}

TEST_CASE("The number of ranks does not change a run, and ranks stay equal bit for bit", "[train]") {
  Setting one, several;
  one.trained = several.trained = GENERATE(Trained::kLora, Trained::kAll);
  one.dropout = several.dropout = GENERATE(0.0, 0.05);
  const int num_ranks = GENERATE(2, 3);  // 3 does not divide the update: a rank runs short
  one.batch_size = 12;
  several.batch_size = 12 / num_ranks;
  one.num_rows = several.num_rows = 28;  // the epoch's last update is short
  const Run expected = run_training(one);
  std::vector<Run> runs(num_ranks);
  test::TempDir output;
  const auto rows = std::make_shared<MemoryStore>(several.num_rows, kVocabSize);
  comm::run_thread_ranks(num_ranks, [&](comm::Communicator& communicator) {
    runs[communicator.rank()] = train_rank(several, rows, communicator, output.path());
  });
  require_same_curve(runs[0], expected, kBound);
  for (int rank = 1; rank < num_ranks; ++rank)
    for (size_t i = 0; i < runs[0].weights.size(); ++i) CHECK(torch::equal(runs[0].weights[i], runs[rank].weights[i]));
}

TEST_CASE("Ranks without a row in the last update change nothing, whatever is trained", "[train]") {
  Setting one, several;
  one.trained = several.trained = GENERATE(Trained::kLora, Trained::kLoraOnHead, Trained::kSavedHead, Trained::kAll);
  one.model = several.model = GENERATE(as<std::string>(), "llama_plain", "qwen3");  // untied and tied
  one.max_steps = several.max_steps = 6;
  one.num_rows = several.num_rows = 25;  // the epoch's last update has one row
  one.batch_size = 12;
  several.batch_size = 4;
  INFO(one.model << ", trained: " << static_cast<int>(one.trained));
  const Run expected = run_training(one);
  std::vector<Run> runs(3);
  test::TempDir output;
  const auto rows = std::make_shared<MemoryStore>(several.num_rows, kVocabSize);
  comm::run_thread_ranks(3, [&](comm::Communicator& communicator) {
    runs[communicator.rank()] = train_rank(several, rows, communicator, output.path());
  });
  require_same_curve(runs[0], expected, kBound);
}

TEST_CASE("Ten steps, saved and continued for ten, equal twenty bit for bit", "[train]") {
  Setting whole, first, second;
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  whole.trained = first.trained = second.trained = GENERATE(Trained::kLora, Trained::kAll);
  whole.dtype = first.dtype = second.dtype = dtype;
  first.max_steps = 10;
  first.save_steps = 5;
  second.resume = true;
  test::TempDir output;
  const Run expected = run_training(whole);
  run_training(first, output.path());
  const Run continued = run_training(second, output.path());
  REQUIRE(continued.reports.size() == 10);
  for (size_t i = 0; i < 10; ++i) {
    INFO("step " << 11 + i);
    CHECK(continued.reports[i].step == expected.reports[10 + i].step);
    CHECK(continued.reports[i].loss == expected.reports[10 + i].loss);
    CHECK(continued.reports[i].grad_norm == expected.reports[10 + i].grad_norm);
  }
  for (size_t i = 0; i < expected.weights.size(); ++i) CHECK(torch::equal(continued.weights[i], expected.weights[i]));
}

TEST_CASE("fp16 trains with a dynamic loss scale", "[train]") {
  Setting setting;
  setting.dtype = at::kHalf;
  setting.trained = GENERATE(Trained::kLora, Trained::kAll);
  const Run run = run_training(setting);
  CHECK(run.reports.back().loss < run.reports.front().loss - 0.2);
  CHECK(run.reports.front().loss_scale == 65536);
}

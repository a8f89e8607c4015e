// Training runs of a tiny model on random rows in memory, for the tests of the trainer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "batch/packed_text_source.h"
#include "checkpoint/model_slices.h"
#include "checkpoint/tensor_file.h"
#include "comm/single_process_communicator.h"
#include "comm/thread_ranks.h"
#include "lora/adapters.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"
#include "train/sharding_hooks.h"
#include "train/trainer.h"

namespace dsft::test {

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

/// What is trained; kBetweenFrozen: weights of each block, with frozen ones between them.
enum class Trained { kLora, kLoraOnHead, kSavedHead, kAll, kBetweenFrozen };

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
  int64_t stage = 0;
  bool offloads_state = false, offloads_parameters = false;
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  std::function<void(train::TrainingConfig&)> configure = {};  ///< changes what the trainer is told
  std::function<void(train::Job&)> amend = {};                 ///< adds evaluations, observers, faults
  const train::StopSignal* stop_signal = nullptr;
  std::optional<train::NumbersAreRead> numbers_are_read = {};  ///< as the device would have it, if not given
};

struct Run {
  train::RunEnd end = train::RunEnd::kFinished;
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
inline void write_weights(const model::CausalLm& lm, const std::filesystem::path& directory) {
  checkpoint::NamedTensors tensors;
  for (const auto& item : lora::trainable_tensors(lm)) tensors.emplace_back(item.name, item.tensor.detach().cpu());
  checkpoint::write_tensors(directory / "weights.safetensors", tensors);
}

inline void read_weights(const model::CausalLm& lm, const zero::ParameterShards* shards,
                         const std::filesystem::path& directory) {
  torch::NoGradGuard no_grad;
  const auto file = io::SafetensorsFile::open(directory / "weights.safetensors");
  checkpoint::NamedTensors trainable;
  for (auto& item : lora::trainable_tensors(lm)) trainable.emplace_back(item.name, item.tensor);
  for (const checkpoint::TensorSlice& slice : checkpoint::own_slices(trainable, shards)) {
    const at::Tensor saved = checkpoint::read_tensor(file, *file.find(slice.name)).view(-1);
    slice.values.copy_(saved.narrow(0, slice.first, slice.values.numel()));
  }
}

inline void choose_trainable(model::CausalLm& lm, const Setting& setting) {
  if (setting.trained == Trained::kAll || setting.trained == Trained::kBetweenFrozen) {
    for (auto& [name, parameter] : model::named_parameters_of(lm)) {
      const bool is_between = name.find("k_proj") != std::string::npos || name.find("up_proj") != std::string::npos;
      parameter.requires_grad_(setting.trained == Trained::kAll || !is_between);
    }
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
inline Run train_rank(const Setting& setting, std::shared_ptr<const data::ExampleStore> rows,
                      comm::Communicator& communicator, const std::filesystem::path& output_dir) {
  auto lm = test::load_tiny_model(setting.model, setting.device);
  if (setting.dtype != at::kFloat)
    for (at::Tensor& parameter : lm->parameters()) parameter.set_data(parameter.to(setting.dtype));
  choose_trainable(*lm, setting);
  train::TrainingConfig config;
  config.gradient_checkpointing =
      setting.recompute ? train::GradientCheckpointing::kTrue : train::GradientCheckpointing::kFalse;
  config.save_steps = setting.save_steps;
  if (setting.resume) config.resume_from_checkpoint.kind = train::ResumeFrom::Kind::kNewest;
  if (setting.configure) setting.configure(config);

  Run run;
  const Logger logger(communicator.rank(), /*is_quiet=*/true);
  train::RunContext context{communicator, setting.device, 42, output_dir, logger, setting.stop_signal};
  if (setting.numbers_are_read) context.numbers_are_read = *setting.numbers_are_read;
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
    parameters.push_back({item.name, item.tensor, true, item.is_adapter, lm->block_of(item.name)});
  zero::OptimizerOptions options;
  options.stage = setting.stage;
  const zero::HostShare on_host{setting.device.is_cuda() ? device::HostPages::kPinned : device::HostPages::kPageable};
  if (setting.offloads_state) options.offloads_state = on_host;
  if (setting.offloads_parameters) options.offloads_parameters = on_host;
  options.accumulates = setting.accumulation > 1;
  if (setting.dtype == at::kHalf) options.loss_scaler = optim::LossScalerOptions();
  job.optimizer = std::make_unique<zero::ShardedOptimizer>(parameters, options, communicator);
  if (setting.stage == 3)
    job.shards = train::shard_parameters(*lm, *job.optimizer, communicator, options.offloads_parameters);
  if (setting.stage > 0) job.hooks = std::make_unique<train::ShardingHooks>(*lm, *job.optimizer, job.shards.get());
  job.schedule = {optim::SchedulerType::kCosine, {}, 5e-3, 3, 40};
  job.max_steps = setting.max_steps;
  job.observers.push_back(std::make_unique<Recorder>(run.reports));
  zero::ParameterShards* const shards = job.shards.get();
  job.save_weights = [lm, shards, &communicator](const auto& directory) {
    const zero::WholeParameters whole(shards);
    if (communicator.rank() == 0) write_weights(*lm, directory);
  };
  job.load_weights = [lm, shards](const auto& directory) { read_weights(*lm, shards, directory); };
  if (setting.amend) setting.amend(job);
  train::Trainer trainer(std::move(job), config, context);
  run.end = trainer.run();
  const zero::WholeParameters whole(shards);
  for (const auto& item : lora::trainable_tensors(*lm)) run.weights.push_back(item.tensor.detach().clone());
  return run;
}

constexpr int64_t kVocabSize = 97;  // of the fixture
constexpr double kBound = 1e-5;     // numerics.md, fp32, 20 steps

inline Run run_training(const Setting& setting, const std::filesystem::path& output_dir) {
  const auto communicator = comm::make_single_process_communicator();
  return train_rank(setting, std::make_shared<MemoryStore>(setting.num_rows, kVocabSize), *communicator, output_dir);
}

inline Run run_training(const Setting& setting) {
  return run_training(setting, test::TempDir().path());
}

}  // namespace dsft::test

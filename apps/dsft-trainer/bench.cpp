#include <torch/types.h>

#include <algorithm>
#include <array>
#include <iomanip>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/stopwatch.h"
#include "batch/packed_text_source.h"
#include "comm/single_process_communicator.h"
#include "device/device.h"
#include "device/graph.h"
#include "device/trace.h"
#include "dsft-trainer/tasks.h"
#include "generate/engine.h"
#include "io/file.h"
#include "lora/adapters.h"
#include "recipe/build_model.h"
#include "spec/parameter_counts.h"
#include "train/training_step.h"

namespace dsft::apps {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

spec::ModelSpec read_spec(const BenchOptions& options) {
  return options.config.empty() ? spec::read_model_spec(spec::find_model(options.model, ""))
                                : spec::read_model_spec_file(options.config);
}

// Values as a checkpoint at its start has them; speed does not depend on them.
void fill_randomly(model::CausalLm& model) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(0);
  for (auto& [name, parameter] : model::named_parameters_of(model)) {
    if (parameter.dim() == 1)
      parameter.fill_(name.ends_with(".bias") ? 0.0 : 1.0);
    else
      parameter.normal_(0.0, 0.02);
  }
}

std::vector<int32_t> random_ids(int64_t count, int64_t vocab_size) {
  const at::Tensor ids = torch::randint(vocab_size, {count}, at::kInt);
  return {ids.const_data_ptr<int32_t>(), ids.const_data_ptr<int32_t>() + count};
}

/// Dense 16-bit TFLOP/s of the makers' data sheets, by a part of the GPU's name.
constexpr auto kPeaks = std::to_array<std::pair<std::string_view, double>>({{"H100 PCIe", 756},
                                                                            {"H100 NVL", 835},
                                                                            {"H100", 989},
                                                                            {"H200", 989},
                                                                            {"B200", 2250},
                                                                            {"A100", 312},
                                                                            {"L40S", 362},
                                                                            {"L40", 181},
                                                                            {"A40", 150},
                                                                            {"A10", 125},
                                                                            {"RTX 4090", 165},
                                                                            {"RTX 3090", 71}});

/// 0 for a GPU that the table does not have.
double peak_tflops(const std::string& gpu) {
  for (const auto& [name, peak] : kPeaks)
    if (gpu.find(name) != std::string::npos) return peak;
  return 0;
}

/// Rows of random tokens, all supervised.
class RandomRows final : public data::ExampleStore {
 public:
  RandomRows(int64_t count, int64_t length, int64_t vocab_size) {
    for (int64_t row = 0; row < count; ++row) rows_.push_back(random_ids(length, vocab_size));
  }
  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  int64_t length(int64_t row) const override { return static_cast<int64_t>(rows_[static_cast<size_t>(row)].size()); }
  int64_t num_supervised(int64_t row) const override { return length(row) - 1; }
  data::Example read(int64_t row) const override {
    const std::vector<int32_t>& ids = rows_[static_cast<size_t>(row)];
    return {ids, ids};
  }

 private:
  std::vector<std::vector<int32_t>> rows_;
};

/// Of a step: until its batch was there, from then until the host had enqueued all of it, and until the device was
/// done.
struct StepSeconds {
  double waited_for_data = 0, enqueued = 0, whole = 0;
};

/// Of parts of a step, the device waited for at the end of each; `data`: a batch made while nothing else is done.
struct PartSeconds {
  double data = 0, forward = 0, backward = 0, optimizer = 0;
};

class TrainBench {
 public:
  TrainBench(const BenchOptions& options, const spec::ModelSpec& spec, at::ScalarType dtype, at::Device device)
      : model_(model::build_causal_lm(spec, dtype, device)),
        communicator_(comm::make_single_process_communicator()),
        keep_(options.recomputes               ? nn::BlockRunner::Keep::kInput
              : options.recomputes_selectively ? nn::BlockRunner::Keep::kSelected
                                               : nn::BlockRunner::Keep::kGraph),
        source_(std::make_shared<RandomRows>(options.batch_size, options.length, spec.vocab_size),
                {.shuffle = false, .packing = false},
                {.items_per_micro_batch = options.batch_size, .num_epochs = std::numeric_limits<int64_t>::max()},
                device) {
    fill_randomly(*model_);
    choose_trainable(options);
    std::vector<zero::TrainableParameter> parameters;
    for (const auto& item : lora::trainable_tensors(*model_))
      parameters.push_back({item.name, item.tensor, false, item.is_adapter});
    zero::OptimizerOptions optimizer;
    if (dtype == at::kHalf) optimizer.loss_scaler = optim::LossScalerOptions();
    optimizer_ = std::make_unique<zero::ShardedOptimizer>(parameters, optimizer, *communicator_);
    train::StepOptions step{.keep = keep_};
    if (!options.without_cuda_graphs) step.graphs = train::possible_graphs(*model_, loss_);
    step_.emplace(parts(), step);
  }

  StepSeconds step() {
    const Stopwatch watch;
    StepSeconds seconds;
    const std::vector<Batch> micro_batches = source_.next_step().value();
    seconds.waited_for_data = watch.seconds();
    const train::EnqueuedStep enqueued = step_->run(micro_batches, /*step=*/1);
    seconds.enqueued = watch.seconds() - seconds.waited_for_data;
    enqueued.read(*communicator_);
    seconds.whole = watch.seconds();
    return seconds;
  }

  /// Of a step without graphs.
  PartSeconds step_in_parts() {
    PartSeconds seconds;
    source_.restore({}, 0);  // forgets what it has read ahead
    Stopwatch watch;
    const std::vector<Batch> micro_batches = source_.next_step().value();
    seconds.data = watch.restart();
    const auto after_part = [&](train::StepPart part) {
      device::synchronize(model_->device());
      const double elapsed = watch.restart();
      (part == train::StepPart::kForward    ? seconds.forward
       : part == train::StepPart::kBackward ? seconds.backward
                                            : seconds.optimizer) += elapsed;
    };
    train::TrainingStep(parts(), {.keep = keep_, .after_part = after_part}).run(micro_batches, /*step=*/1);
    return seconds;
  }

  /// The micro-batch's; a large one has none, while the optimizer's step may have its own.
  bool has_graph() { return step_->records(source_.next_step().value().front()); }

  int64_t num_ranks() const { return communicator_->size(); }

  int64_t num_trainable() const {
    int64_t count = 0;
    for (const auto& item : lora::trainable_tensors(*model_)) count += item.tensor.numel();
    return count;
  }

 private:
  void choose_trainable(const BenchOptions& options) {
    if (options.is_full) {
      for (at::Tensor& parameter : model_->parameters()) parameter.requires_grad_(true);
      return;
    }
    lora::LoraConfig config;
    config.r = options.rank;
    config.lora_alpha = 2.0 * static_cast<double>(options.rank);
    config.lora_dropout = options.lora_dropout;
    config.target_modules = {
        .kind = lora::TargetModules::Kind::kNames, .names = {"q_proj", "k_proj", "v_proj", "o_proj"}, .regex = ""};
    lora::attach(*model_, spec::match_lora_targets(model_->spec(), config), {}, config, 42);
  }

  train::StepParts parts() const {
    return {.model = *model_,
            .loss = loss_,
            .optimizer = *optimizer_,
            .communicator = *communicator_,
            .learning_rates = torch::full({1}, 1e-4, at::TensorOptions(at::kDouble).device(model_->device()))};
  }

  std::shared_ptr<model::CausalLm> model_;
  std::unique_ptr<comm::Communicator> communicator_;
  nn::BlockRunner::Keep keep_;
  loss::CausalLmLoss loss_;
  std::unique_ptr<zero::ShardedOptimizer> optimizer_;
  PackedTextSource source_;  // as training has it: the next batch is made beside a step
  std::optional<train::TrainingStep> step_;
};

template <typename Seconds>
double median_of(const std::vector<Seconds>& steps, double Seconds::*part) {
  std::vector<double> values;
  for (const Seconds& step : steps) values.push_back(step.*part);
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

/// Arithmetic of a step for one token: of the matrices forward, for the inputs' gradients and (full) the weights', and
/// of causal attention, whose backward pass is 2.5 times its forward pass (Dao, "FlashAttention-2", 2023). The head's
/// chunks are computed again in the backward pass where it is trained, whatever recomputes the layers.
double flops_per_token(const spec::ModelSpec& spec, const BenchOptions& options) {
  const double head = static_cast<double>(spec.vocab_size * spec.hidden_size);
  const double layers =
      static_cast<double>(spec::count_parameters(spec, nullptr).total) - head * (spec.tie_word_embeddings ? 1 : 2);
  const double attention =
      2.0 * static_cast<double>(options.length * spec.num_attention_heads * spec.head_dim * spec.num_hidden_layers);
  const double forwards = options.recomputes ? 2 : 1, weights = options.is_full ? 2 : 0;
  const double gate_up = 4.0 * static_cast<double>(spec.num_hidden_layers * spec.hidden_size * spec.intermediate_size);
  return layers * (2 * forwards + 2 + weights) + head * (options.is_full ? 8 : 4) + attention * (2.5 + forwards) +
         (options.recomputes_selectively ? gate_up : 0);
}

/// What holds a step up: making its batch, enqueuing it, or else arithmetic where the matrices run at a good part of
/// the peak, or else memory. `data_share`, `launch_share`: of the step's time, what the threads that do so are busy. A
/// rule of thumb, for the first look.
std::string bound_of(double data_share, double launch_share, double mfu) {
  constexpr double kBusy = 0.9, kGoodMatrices = 0.4;
  if (data_share > kBusy) return "data";
  if (launch_share > kBusy) return "launch";
  if (mfu == 0) return "compute or memory bandwidth";
  return mfu > kGoodMatrices ? "compute" : "memory bandwidth";
}

Json measure_training(const BenchOptions& options, const spec::ModelSpec& spec, at::ScalarType dtype,
                      at::Device device) {
  TrainBench bench(options, spec, dtype, device);
  // the second step records the graphs, where it is only that of the optimizer too
  const int64_t least_warmup = device::has_graphs(device) && !options.without_cuda_graphs ? 2 : 0;
  for (int64_t i = 0; i < std::max(options.warmup, least_warmup); ++i) bench.step();
  std::vector<StepSeconds> whole;
  std::vector<PartSeconds> parts;
  for (int64_t i = 0; i < options.steps; ++i) whole.push_back(bench.step());
  for (int64_t i = 0; i < std::min<int64_t>(3, options.steps); ++i) parts.push_back(bench.step_in_parts());
  if (!options.profile.empty()) device::trace(options.profile, device, [&] { bench.step(); });
  const double seconds = median_of(whole, &StepSeconds::whole), enqueued = median_of(whole, &StepSeconds::enqueued);
  const double data = median_of(parts, &PartSeconds::data);
  const double launch_share = device::is_asynchronous(device) ? enqueued / seconds : 0;
  const double tokens = static_cast<double>(options.batch_size * options.length);
  const double tflops = flops_per_token(spec, options) * tokens / seconds * 1e-12;
  const double peak = peak_tflops(device::device_name(device)), mfu = peak > 0 ? tflops / peak : 0;
  return {{"cuda_graphs", bench.has_graph()},
          {"tokens_per_second", tokens / seconds},
          {"ms_per_step", 1000 * seconds},
          {"data_ms", 1000 * data},
          {"data_wait_ms", 1000 * median_of(whole, &StepSeconds::waited_for_data)},
          {"forward_ms", 1000 * median_of(parts, &PartSeconds::forward)},
          {"backward_ms", 1000 * median_of(parts, &PartSeconds::backward)},
          {"optimizer_ms", 1000 * median_of(parts, &PartSeconds::optimizer)},
          {"num_ranks", bench.num_ranks()},
          {"enqueued_ms", 1000 * enqueued},
          {"tflops", tflops},
          {"mfu", peak > 0 ? Json(mfu) : Json()},
          {"bound", bound_of(data / seconds, launch_share, mfu)},
          {"num_trainable", bench.num_trainable()}};
}

Json measure_decoding(const BenchOptions& options, const spec::ModelSpec& spec, at::ScalarType dtype,
                      at::Device device) {
  const auto model = model::build_causal_lm(spec, dtype, device);
  fill_randomly(*model);
  std::vector<generate::Request> requests;
  for (int64_t i = 0; i < options.batch_size; ++i)
    requests.push_back({random_ids(options.length, spec.vocab_size), options.new_tokens, static_cast<uint64_t>(i)});
  generate::EngineOptions engine;
  engine.max_sequences = options.batch_size;
  engine.cache_bytes = std::numeric_limits<int64_t>::max();  // all at once
  const nn::BlockRunner runner;
  generate::Engine decoder(*model, runner, engine, options.length + options.new_tokens);
  std::vector<StepSeconds> rounds;
  for (int64_t i = 0; i < options.warmup + options.steps; ++i) {
    const Stopwatch watch;
    decoder.generate(requests);
    StepSeconds seconds;
    seconds.whole = watch.seconds();
    if (i >= options.warmup) rounds.push_back(seconds);
  }
  if (!options.profile.empty()) device::trace(options.profile, device, [&] { decoder.generate(requests); });
  const double seconds = median_of(rounds, &StepSeconds::whole);
  Json result = {{"tokens_per_second", static_cast<double>(options.batch_size * options.new_tokens) / seconds},
                 {"ms_per_token", 1000 * seconds / static_cast<double>(options.new_tokens)}};
  const generate::EngineCounts& counts = decoder.counts();
  if (device::is_asynchronous(device))
    result["host_ms_per_step"] = 1000 * counts.host_seconds / static_cast<double>(counts.num_steps);
  return result;
}

}  // namespace

int run_bench(const BenchOptions& options, const Logger&) {
  const spec::ModelSpec spec = read_spec(options);
  const at::Device device = device::choose_device(options.compute.device, /*local_rank=*/0);
  const at::ScalarType dtype = recipe::torch_dtype(options.compute.dtype, device);
  // the trace comes after the whole measurement
  if (!options.profile.empty()) io::open_for_appending(options.profile, ErrorKind::kData);
  const bool trains = options.kind == "train";
  Json result = {{"kind", options.kind},
                 {"model_type", spec.model_type},
                 {"batch_size", options.batch_size},
                 {"length", options.length},
                 {"dtype", c10::toString(dtype)},
                 {"device", device.is_cpu() ? "cpu" : device::device_name(device)}};
  result.update(trains ? measure_training(options, spec, dtype, device)
                       : measure_decoding(options, spec, dtype, device));
  result["peak_memory_gib"] = static_cast<double>(device::peak_memory_bytes(device)) / kGib;
  if (options.is_json) {
    std::cout << result.dump() << "\n";
    return 0;
  }
  for (const auto& [name, value] : result.items()) {
    std::cout << std::left << std::setw(20) << name << " ";
    if (value.is_number_float())
      std::cout << std::setprecision(4) << value.get<double>();
    else
      std::cout << (value.is_string() ? value.get<std::string>() : value.dump());
    std::cout << "\n";
  }
  return 0;
}

}  // namespace dsft::apps

#include "estimate/advice.h"

#include <algorithm>

#include "catch_amalgamated.hpp"
#include "estimate/model_shapes.h"

using namespace dsft::estimate;
using dsft::train::GradientCheckpointing;

namespace {

constexpr int64_t kGibBytes = int64_t{1} << 30;

Workload full_workload(const char* shape, int64_t num_documents) {
  Workload workload{.model = spec_of(shape), .lora = std::nullopt};
  workload.num_documents = num_documents;
  return workload;
}

std::vector<std::string> settings_of(const std::vector<Remedy>& list) {
  std::vector<std::string> settings;
  for (const Remedy& remedy : list) settings.push_back(remedy.settings);
  return settings;
}

bool has(const std::vector<std::string>& texts, const std::string& part) {
  return std::any_of(texts.begin(), texts.end(),
                     [&](const std::string& text) { return text.find(part) != std::string::npos; });
}

std::vector<std::string> sentences_of(const MeasuredRun& run) {
  std::vector<std::string> sentences;
  for (const Finding& finding : findings(run)) sentences.push_back(finding.sentence);
  return sentences;
}

}  // namespace

TEST_CASE("remedies stand in the order of the bytes that they save", "[estimate]") {
  const ShortOfMemory run{full_workload("Qwen3-0.6B", 8), {.stage = 0, .num_gpus = 2}, 20 * kGibBytes, 24 * kGibBytes};
  const std::vector<Remedy> list = remedies(run);
  const int64_t now = estimate_memory(run.workload, run.placement).gpu.total();
  REQUIRE(list.size() > 4);
  for (size_t i = 1; i < list.size(); ++i) REQUIRE(list[i - 1].saved_bytes >= list[i].saved_bytes);
  for (const Remedy& remedy : list) REQUIRE(remedy.peak_bytes == now - remedy.saved_bytes);
  // 16,384 tokens take more than the states of 0.6B parameters
  REQUIRE(list[0].settings == "training.gradient_checkpointing: true");
  REQUIRE(list[0].fits);
  REQUIRE(has(settings_of(list), "training.per_device_train_batch_size: 4 "));
  REQUIRE(has(settings_of(list), "zero.stage: 2"));
  REQUIRE(has(settings_of(list), "a section `lora`"));
}

TEST_CASE("a micro-batch is cut into equal parts, so that the update stays what it is", "[estimate]") {
  const auto advice_for = [](int64_t rows) {
    return settings_of(remedies({full_workload("Qwen3-0.6B", rows), {}, 20 * kGibBytes, 24 * kGibBytes}));
  };
  REQUIRE(has(advice_for(6), "batch_size: 3 with twice the gradient_accumulation_steps"));
  REQUIRE(has(advice_for(9), "batch_size: 3 with 3 times the gradient_accumulation_steps"));
  REQUIRE(has(advice_for(5), "batch_size: 1 with 5 times the gradient_accumulation_steps"));
}

TEST_CASE("with few tokens the states are what to take away first", "[estimate]") {
  ShortOfMemory run{full_workload("Qwen2.5-7B", 1), {.stage = 1, .num_gpus = 4}, 70 * kGibBytes, 80 * kGibBytes};
  run.workload.length = 128;
  const std::vector<Remedy> list = remedies(run);
  REQUIRE(has({list[0].settings}, "lora"));
  REQUIRE(has({list[1].settings}, "offload"));
  REQUIRE_FALSE(has(settings_of(list), "per_device_train_batch_size"));  // one row cannot be halved
  REQUIRE_FALSE(has(settings_of(list), "zero.stage: 1"));
}

TEST_CASE("a single GPU is told of no stage without an offload", "[estimate]") {
  const std::vector<std::string> settings =
      settings_of(remedies({full_workload("Qwen3-0.6B", 1), {}, 10 * kGibBytes, 8 * kGibBytes}));
  REQUIRE(has(settings, "zero.stage: 2 with zero.offload_optimizer.device: cpu"));
  REQUIRE(std::find(settings.begin(), settings.end(), "zero.stage: 2") == settings.end());
}

TEST_CASE("what no single setting does, several do together", "[estimate]") {
  ShortOfMemory run{full_workload("Qwen2.5-7B", 4), {.stage = 2, .num_gpus = 2}, 22 * kGibBytes, 24 * kGibBytes};
  const std::vector<Remedy> list = remedies(run);
  REQUIRE(list.back().fits);
  REQUIRE(list.back().settings.find("; ") != std::string::npos);
  REQUIRE(std::count_if(list.begin(), list.end(), [](const Remedy& remedy) { return remedy.fits; }) == 1);
  const std::string text = explain_out_of_memory(run);
  REQUIRE(text.find("Measured: 22.0 GiB") != std::string::npos);
  REQUIRE(text.find(list.back().settings) != std::string::npos);

  // offloads that the host has no room for are not named
  run.host_bytes = 8 * kGibBytes;
  REQUIRE_FALSE(has(settings_of(remedies(run)), "offload"));
}

TEST_CASE("a peak above the estimate raises what a remedy is said to take", "[estimate]") {
  ShortOfMemory run{full_workload("Qwen3-0.6B", 8), {}, 0, 80 * kGibBytes};
  const int64_t estimated = estimate_memory(run.workload, run.placement).gpu.total();
  const int64_t before = remedies(run)[0].peak_bytes;
  run.measured_peak_bytes = estimated + 5 * kGibBytes;
  REQUIRE(remedies(run)[0].peak_bytes == before + 5 * kGibBytes);
}

TEST_CASE("an offload, a stage and a recomputation that memory does not ask for are named", "[estimate]") {
  MeasuredRun run{.workload = full_workload("Qwen3-0.6B", 1),
                  .placement = {.stage = 3, .offloads_optimizer = true, .offloads_parameters = true, .num_gpus = 2},
                  .device_bytes = 80 * kGibBytes,
                  .step_s = 1.0,
                  .forward_s = 0.2,
                  .optimizer_s = 0.5,
                  .communication_s = 0.1};
  run.workload.recompute = GradientCheckpointing::kTrue;
  run.peak_bytes = estimate_memory(run.workload, run.placement).gpu.total();
  const std::vector<std::string> sentences = sentences_of(run);
  REQUIRE(sentences.size() == 4);
  REQUIRE(has({sentences[0]}, "zero.offload_optimizer with offload_param is not needed"));
  REQUIRE(has({sentences[0]}, "50 % of a step"));
  REQUIRE(has({sentences[1]}, "training.gradient_checkpointing: false fits"));
  REQUIRE(has({sentences[2]}, "zero.stage: 1 without offload_param fits and talks less"));
  REQUIRE(has({sentences[3]}, "room for training.per_device_train_batch_size"));

  // the same on a GPU that has no more than the run took
  run.device_bytes = run.peak_bytes + 2 * kGibBytes;
  run.workload.length = 8192;
  run.peak_bytes = estimate_memory(run.workload, run.placement).gpu.total();
  run.device_bytes = (run.peak_bytes + kGibBytes) / 19 * 20 + kGibBytes / 10;
  REQUIRE(sentences_of(run).empty());
}

TEST_CASE("stage 3 is advised without what it does not go with", "[estimate]") {
  ShortOfMemory run{full_workload("Qwen2.5-7B", 1), {.stage = 2, .num_gpus = 4}, 70 * kGibBytes, 80 * kGibBytes};
  REQUIRE_FALSE(has(settings_of(remedies(run)), "auto_find_batch_size"));
  run.finds_batch_size = true;
  int num_told = 0;
  for (const std::string& settings : settings_of(remedies(run))) {
    if (settings.find("zero.stage: 3") == std::string::npos) continue;
    REQUIRE(settings.find("zero.stage: 3 with training.auto_find_batch_size: false") == 0);
    ++num_told;
  }
  REQUIRE(num_told == 2);  // alone and with offload_param
}

TEST_CASE("CPU ranks are told of ranks, and of no offload into the memory that they compute in", "[estimate]") {
  MeasuredRun run{.workload = full_workload("Qwen3-0.6B", 1),
                  .placement = {.stage = 2, .offloads_optimizer = true, .num_gpus = 2},
                  .device_bytes = 80 * kGibBytes,
                  .step_s = 1.0,
                  .optimizer_s = 0.5};
  run.workload.is_on_gpu = false;
  run.peak_bytes = estimate_memory(run.workload, run.placement).host.total() / 2;
  REQUIRE(has(sentences_of(run), "zero.offload_optimizer is not needed: without it a rank takes"));
  REQUIRE_FALSE(has(sentences_of(run), "GPU"));

  const ShortOfMemory short_of_memory{run.workload, {.num_gpus = 2}, 8 * kGibBytes, 8 * kGibBytes};
  REQUIRE(has(settings_of(remedies(short_of_memory)), "zero.stage: 2"));
  REQUIRE_FALSE(has(settings_of(remedies(short_of_memory)), "offload"));
  REQUIRE(explain_out_of_memory(short_of_memory).find("GPU") == std::string::npos);
}

TEST_CASE("talk that nothing hides and waiting for data are named", "[estimate]") {
  MeasuredRun run{.workload = full_workload("Qwen3-0.6B", 8),
                  .placement = {.stage = 1, .num_gpus = 2},
                  .overlaps_communication = false,
                  .device_bytes = 24 * kGibBytes,
                  .step_s = 1.0,
                  .communication_s = 0.2,
                  .data_s = 0.3};
  run.peak_bytes = 23 * kGibBytes;
  const std::vector<std::string> sentences = sentences_of(run);
  REQUIRE(sentences.size() == 2);
  REQUIRE(has({sentences[0]}, "data.num_workers"));
  REQUIRE(has({sentences[1]}, "zero.overlap_comm"));
  run.communication_s = run.data_s = 0.01;
  REQUIRE(sentences_of(run).empty());
}

TEST_CASE("room for a larger micro-batch is said where the update stays the same", "[estimate]") {
  MeasuredRun run{.workload = full_workload("Qwen3-0.6B", 4),
                  .placement = {},
                  .gradient_accumulation_steps = 8,
                  .device_bytes = 80 * kGibBytes,
                  .step_s = 1.0};
  run.peak_bytes = estimate_memory(run.workload, run.placement).gpu.total();
  const std::vector<std::string> sentences = sentences_of(run);
  REQUIRE(sentences.size() == 1);
  REQUIRE(has({sentences[0]}, "per_device_train_batch_size: 16 with gradient_accumulation_steps: 2"));
  run.gradient_accumulation_steps = 1;  // 8,192 tokens keep a GPU busy
  REQUIRE(sentences_of(run).empty());
}

TEST_CASE("a grpo recipe is told of nothing that does not cut its rows", "[estimate]") {
  ShortOfMemory run{full_workload("Qwen3-0.6B", 8), {}, 20 * kGibBytes, 24 * kGibBytes};
  run.workload.sampled = SampledRows{};
  REQUIRE(has(settings_of(remedies(run)), "and, where it is written, the grpo.steps_per_generation"));
  REQUIRE(has({explain_out_of_memory(run)}, "a micro-batch of 8 x 2048 tokens (a prompt is taken to have 512,"));
  run.workload.is_on_gpu = false;
  run.workload.lora = dsft::lora::LoraConfig();
  run.workload.recompute = GradientCheckpointing::kTrue;
  run.workload.num_documents = 1;  // nothing is left to change
  const std::string text = explain_out_of_memory(run);
  REQUIRE(has({text}, "No other setting takes less: grpo.max_completion_length, shorter prompts, or a smaller model"));
  REQUIRE_FALSE(has({text}, "data.max_length"));
  run.workload.sampled.reset();
  REQUIRE(has({explain_out_of_memory(run)}, "data.max_length"));
}

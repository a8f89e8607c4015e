#include "recipe/memory_advice.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/error.h"
#include "device/device.h"
#include "io/file.h"
#include "rl/generation_batch.h"
#include "spec/model_spec.h"

namespace dsft::recipe {

estimate::Workload workload_on(at::Device device, const recipe_config::RecipeConfig& config) {
  estimate::Workload workload =
      estimate::workload_of(config, spec::read_model_spec(spec::find_model(config.model.path, config.model.revision)));
  workload.is_on_gpu = !device.is_cpu();
  return workload;
}

int64_t memory_of_rank(at::Device device, const comm::Placement& placement) {
  const int64_t bytes = device::attainable_memory_bytes(device);
  return device.is_cpu() ? bytes / placement.local_size : bytes;
}

estimate::ShortOfMemory short_of_memory(const recipe_config::RecipeConfig& config, at::Device device,
                                        const comm::Placement& placement, int64_t free_host_bytes) {
  // estimates count the host's memory for all ranks together
  const int64_t num_hosts = std::max(1, placement.size / placement.local_size);
  return {.workload = workload_on(device, config),
          .placement = estimate::placement_of(config, placement.size),
          .measured_peak_bytes = device::peak_memory_bytes(device),
          .device_bytes = memory_of_rank(device, placement),
          .host_bytes = free_host_bytes * num_hosts,
          .finds_batch_size = config.training.auto_find_batch_size};
}

namespace {

std::optional<estimate::MeasuredSampling> sampling_to_measure(const recipe_config::RecipeConfig& config,
                                                              at::Device device, const comm::Placement& placement) {
  if (config.recipe != recipe_config::RecipeKind::kGrpo) return std::nullopt;
  const rl::GrpoConfig& grpo = *config.grpo;
  const rl::GenerationBatch round = rl::plan_generation(
      grpo, {config.training.per_device_train_batch_size, config.training.gradient_accumulation_steps, placement.size});
  estimate::MeasuredSampling sampling{
      .num_sequences = round.num_completions() / placement.size,
      .steps_per_generation = round.steps_per_generation,
      .sized_by = grpo.generation_batch_size  ? estimate::RoundKey::kGenerationBatchSize
                  : grpo.steps_per_generation ? estimate::RoundKey::kStepsPerGeneration
                                              : estimate::RoundKey::kGradientAccumulation,
      .rounds_of_update = static_cast<double>(round.update.accumulation) / static_cast<double>(round.steps_per_round()),
      .is_on_gpu = !device.is_cpu(),
      .max_completion_length = grpo.max_completion_length,
      .masks_truncated = grpo.mask_truncated_completions};
  for (const rewards::RewardConfig& reward : grpo.judged_by.rewards)
    if (const auto* program = std::get_if<rewards::ProgramConfig>(&reward.function))
      sampling.programs.push_back(concat(reward.metric_name(), " (workers: ", program->workers, ")"));
  return sampling;
}

}  // namespace

estimate::MeasuredRun run_to_measure(const recipe_config::RecipeConfig& config, at::Device device,
                                     const comm::Placement& placement) {
  return {.workload = workload_on(device, config),
          .placement = estimate::placement_of(config, placement.size),
          .overlaps_communication = config.zero.stage == 0 || config.zero.overlap_comm,
          .gradient_accumulation_steps = config.training.gradient_accumulation_steps,
          .sampling = sampling_to_measure(config, device, placement),
          .device_bytes = memory_of_rank(device, placement)};
}

std::filesystem::path memory_advice_file(const std::filesystem::path& output_dir) {
  return output_dir / "out_of_memory.txt";
}

bool is_first_to_explain(const std::filesystem::path& output_dir, const std::string& text) {
  std::error_code ignored;  // a folder that cannot be made holds no file either
  std::filesystem::create_directories(output_dir, ignored);
  const std::filesystem::path path = memory_advice_file(output_dir);
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) return errno != EEXIST;
  ::close(descriptor);
  try {
    io::replace_text_file(path, text + "\n");
  } catch (const Error&) {
    // a full disk does not keep it from being printed
  }
  return true;
}

}  // namespace dsft::recipe

#include "estimate/workload.h"

#include <algorithm>

#include "base/error.h"

namespace dsft::estimate {

namespace {

bool evaluates(const recipe_config::RecipeConfig& recipe) {
  return recipe.training.eval_strategy != train::EvalStrategy::kNo || recipe.training.eval_on_start;
}

bool generates_while_training(const recipe_config::RecipeConfig& recipe) {
  if (recipe.recipe == recipe_config::RecipeKind::kGrpo) return true;
  return evaluates(recipe) && std::any_of(recipe.eval.metrics.begin(), recipe.eval.metrics.end(),
                                          [](evaluate::Metric metric) { return metric != evaluate::Metric::kLoss; });
}

SampledRows sampled_rows(const recipe_config::RecipeConfig& recipe, std::optional<int64_t> longest_prompt) {
  const rl::GrpoConfig& grpo = *recipe.grpo;
  const int64_t steps = grpo.steps_per_generation.value_or(recipe.training.gradient_accumulation_steps);
  const int64_t of_round =  // of all ranks where that is what the recipe says
      grpo.generation_batch_size.value_or(recipe.training.per_device_train_batch_size * steps);
  SampledRows rows{.prompt_length = longest_prompt.value_or(kAssumedPrompt),
                   .is_assumed = !longest_prompt,
                   .num_sequences = std::min(of_round, rl::kMostSequences)};
  if (!evaluates(recipe)) return rows;
  const int64_t num_prompts = std::min(recipe.eval.num_samples.value_or(rl::kMostSequences), rl::kMostSequences);
  const int64_t of_prompt = grpo.ensemble.num_askers() * grpo.generations_in_evaluation();
  rows.num_evaluated = std::min(num_prompts * of_prompt, rl::kMostSequences);
  return rows;
}

}  // namespace

Workload workload_of(const recipe_config::RecipeConfig& recipe, const spec::ModelSpec& model,
                     std::optional<int64_t> longest_prompt) {
  std::optional<SampledRows> sampled;
  if (recipe.recipe == recipe_config::RecipeKind::kGrpo) sampled = sampled_rows(recipe, longest_prompt);
  return {.model = model,
          .lora = recipe.lora,
          .dtype = recipe.model.dtype.value_or(spec::ComputeDtype::kBf16),
          .is_on_gpu = recipe.device != device::DeviceChoice::kCpu,
          .num_documents = recipe.training.per_device_train_batch_size,
          .length = sampled ? sampled->prompt_length + recipe.grpo->max_completion_length : recipe.data.max_length,
          .sampled = sampled,
          .recompute = recipe.training.gradient_checkpointing,
          .generates = generates_while_training(recipe),
          .accumulates = recipe.training.gradient_accumulation_steps > 1 || recipe.training.auto_find_batch_size,
          .keeps_reference = recipe.keeps_reference()};
}

std::string describe_rows(const Workload& workload) {
  std::string text = concat(workload.num_documents, " x ", workload.length, " tokens");
  if (const auto& sampled = workload.sampled)
    text += concat(sampled->is_assumed ? " (a prompt is taken to have " : " (the longest prompt has ",
                   sampled->prompt_length, ", a completion up to ", workload.length - sampled->prompt_length, ")");
  return text;
}

int64_t bytes_of(spec::ComputeDtype dtype) {
  return dtype == spec::ComputeDtype::kFp32 ? 4 : 2;
}

std::vector<Placement> all_placements(int64_t num_gpus) {
  return {{0, false, false, num_gpus}, {1, false, false, num_gpus}, {2, false, false, num_gpus},
          {3, false, false, num_gpus}, {1, true, false, num_gpus},  {2, true, false, num_gpus},
          {3, false, true, num_gpus},  {3, true, false, num_gpus},  {3, true, true, num_gpus}};
}

Placement placement_of(const recipe_config::RecipeConfig& recipe, int64_t num_gpus) {
  const zero::ZeroConfig& zero = recipe.zero;
  return {.stage = zero.stage,
          .offloads_optimizer = zero.stage >= 1 && zero.offload_optimizer.device == zero::OffloadDevice::kCpu,
          .offloads_parameters = zero.stage == 3 && zero.offload_param.device == zero::OffloadDevice::kCpu,
          .num_gpus = num_gpus,
          .gathers_ahead = zero.overlap_comm};
}

std::string describe(const Placement& placement) {
  return concat("stage ", placement.stage, placement.offloads_optimizer ? ", offload_optimizer" : "",
                placement.offloads_parameters ? ", offload_param" : "");
}

}  // namespace dsft::estimate

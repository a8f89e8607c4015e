#include "dsft/run_length.h"

#include <algorithm>
#include <vector>

#include "dsft/gpu_list.h"

namespace dsft::apps {
namespace {

constexpr int64_t kMostRanks = int64_t{1} << 16;

rl::UpdateRows update_of(const recipe_config::RecipeConfig& config, int64_t num_ranks) {
  return {.per_micro_batch = config.training.per_device_train_batch_size,
          .accumulation = config.training.gradient_accumulation_steps,
          .num_ranks = num_ranks};
}

std::vector<int64_t> possible_ranks(const recipe_config::RecipeConfig& config) {
  return rl::possible_ranks(*config.grpo, update_of(config, 1), kMostRanks);
}

}  // namespace

int64_t fewest_ranks(const recipe_config::RecipeConfig& config) {
  if (config.recipe != recipe_config::RecipeKind::kGrpo) return 1;
  const std::vector<int64_t> possible = possible_ranks(config);
  return possible.empty() ? 1 : possible.front();
}

int64_t ranks_to_estimate(const recipe_config::RecipeConfig& config) {
  const int64_t ranks_here = recipe_config::ranks_on_host(config, count_usable_gpus());
  // a train_batch_size that is to be filled has rows for any of them
  if (has_expected_ranks(config) || config.run.train_batch_size) return ranks_here;
  return std::max(ranks_here, fewest_ranks(config));
}

RunLength::RunLength(const recipe_config::RecipeConfig& config, const recipe_config::InputReport& inputs,
                     std::optional<int64_t> settled_ranks)
    : config_(config),
      inputs_(inputs),
      settled_ranks_(settled_ranks),
      num_ranks_(settled_ranks ? *settled_ranks : fewest_ranks(config)) {}

rl::GenerationBatch RunLength::round(int64_t num_ranks) const {
  return rl::plan_generation(*config_.grpo, update_of(config_, num_ranks));
}

int64_t RunLength::count_steps(int64_t num_ranks) const {
  if (!is_grpo()) return recipe_config::count_steps(config_, *inputs_.data->train, num_ranks);
  return round(num_ranks).count_updates(config_.training.max_steps, config_.training.num_train_epochs,
                                        rounds_per_epoch(num_ranks));
}

int64_t RunLength::find_ranks(int64_t total_num_steps) const {
  if (settled_ranks_) return *settled_ranks_;
  if (is_grpo()) return find_ranks_of_rounds(total_num_steps);
  // more ranks never make a run longer
  int64_t low = 1, high = count_steps(1);
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (count_steps(middle) <= total_num_steps)
      high = middle;
    else
      low = middle + 1;
  }
  return count_steps(low) == total_num_steps ? low : num_ranks_;
}

int64_t RunLength::find_ranks_of_rounds(int64_t total_num_steps) const {
  for (const int64_t num_ranks : possible_ranks(config_)) {
    if (round(num_ranks).num_prompts() > *inputs_.num_prompts) break;  // of more ranks, no fewer
    if (count_steps(num_ranks) == total_num_steps) return num_ranks;
  }
  return num_ranks_;
}

}  // namespace dsft::apps

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rl/grpo_config.h"

namespace dsft::rl {

/// The rows of an update: training.per_device_train_batch_size, gradient_accumulation_steps, and the ranks.
struct UpdateRows {
  int64_t per_micro_batch = 1;  ///< completions, not prompts
  int64_t accumulation = 1;
  int64_t num_ranks = 1;
};

/// One round of sampling, over all ranks: whole prompts, each with a group
/// of completions for each agent, which fill whole micro-batches of every rank.
struct GenerationBatch {
  UpdateRows update;
  int64_t num_agents = 1;  ///< that answer each prompt
  int64_t num_generations = 8;
  int64_t steps_per_generation = 1;  ///< micro-batches of a rank
  int64_t num_iterations = 1;

  int64_t num_completions() const { return update.per_micro_batch * steps_per_generation * update.num_ranks; }
  int64_t num_prompts() const { return num_completions() / (num_agents * num_generations); }
  /// Groups of a round: those of its first prompt, one for each agent in their order, those of its second, ...
  int64_t prompt_of(int64_t group) const { return group / num_agents; }
  int64_t agent_of(int64_t group) const { return group % num_agents; }
  /// Micro-batches of a rank in a round, each use of a completion counted.
  int64_t steps_per_round() const { return steps_per_generation * num_iterations; }
  /// Whole rounds of an epoch of so many rows. Throws kUsage where there is none.
  int64_t rounds_per_epoch(int64_t num_rows) const;
  /// Updates of so many rounds, the last one perhaps of fewer micro-batches.
  int64_t updates_of(int64_t num_rounds) const {
    return (num_rounds * steps_per_round() + update.accumulation - 1) / update.accumulation;
  }
  /// Updates of a run: max_steps where that is above 0, else those of its epochs, rounded up. Throws kUsage for more
  /// than optim::kMostUpdates.
  int64_t count_updates(int64_t max_steps, double num_epochs, int64_t rounds_per_epoch) const;
  /// Whether every update is done by the policy that sampled its completions: all ratios are 1, and no log-probability
  /// has to be kept from before.
  bool is_on_policy() const { return update.accumulation % (steps_per_generation * num_iterations) == 0; }
  /// "8 prompts x 8 completions = 64 rows = 4 (micro-batch) x 8 (steps) x 2 (ranks), ...".
  std::string describe() const;
};

/// What to know of an update that takes another number of micro-batches than a round has, where the loss is divided by
/// tokens: TRL 1.16 takes those of the whole round (GRPOTrainer._compute_loss). Empty where both are the same.
std::string explain_divisor(LossType type, const GenerationBatch& batch);

/// The round that the recipe asks for. Throws kUsage, with all numbers in one sentence, where completions are no whole
/// groups or no whole micro-batches.
GenerationBatch plan_generation(const GrpoConfig& config, const UpdateRows& update);

/// The numbers of ranks, ascending and up to `most`, for which plan_generation gives a round. `rows.num_ranks` says
/// nothing here.
std::vector<int64_t> possible_ranks(const GrpoConfig& config, const UpdateRows& rows, int64_t most);

}  // namespace dsft::rl

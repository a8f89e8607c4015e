#pragma once

#include <cstdint>
#include <optional>

#include "recipe_config/input_checks.h"
#include "recipe_config/recipe_config.h"
#include "rl/generation_batch.h"

namespace dsft::apps {

/// The fewest ranks on which a round of sampling of a grpo recipe is possible, or 1 where it is on none; 1 of others.
int64_t fewest_ranks(const recipe_config::RecipeConfig& config);

/// The ranks for which memory is estimated where no option says how many: those that `dsft launch` would start here, or
/// the fewest that the run can have where these are more.
int64_t ranks_to_estimate(const recipe_config::RecipeConfig& config);

/// How many updates the run of a recipe has, which its number of ranks decides.
class RunLength {
 public:
  /// `settled_ranks`: none: any number may be launched. Borrows the rest.
  RunLength(const recipe_config::RecipeConfig& config, const recipe_config::InputReport& inputs,
            std::optional<int64_t> settled_ranks);

  /// What is planned for: the settled ranks, or else the fewest that the run can have.
  int64_t num_ranks() const { return num_ranks_; }
  /// Whether one rank is too few for a round of sampling, and it is open how many there will be.
  bool needs_ranks() const { return !settled_ranks_ && num_ranks_ > 1; }

  bool is_grpo() const { return config_.recipe == recipe_config::RecipeKind::kGrpo; }
  /// Whether the rows of an epoch are known.
  bool has_rows() const { return inputs_.data || inputs_.num_prompts; }

  /// A round of sampling of a grpo recipe. Throws kUsage where it has no whole groups or micro-batches.
  rl::GenerationBatch round(int64_t num_ranks) const;
  /// Rounds of an epoch of a grpo recipe with rows. Throws as round(), and kUsage where there is none.
  int64_t rounds_per_epoch(int64_t num_ranks) const { return round(num_ranks).rounds_per_epoch(*inputs_.num_prompts); }
  /// Updates of the whole run of a recipe with rows. Throws as rounds_per_epoch(), and kUsage for more than
  /// optim::kMostUpdates.
  int64_t count_steps(int64_t num_ranks) const;

  /// The ranks on which the run has so many updates: the settled ones, or else those that give them, or num_ranks()
  /// where none does. Throws as count_steps().
  int64_t find_ranks(int64_t total_num_steps) const;

 private:
  int64_t find_ranks_of_rounds(int64_t total_num_steps) const;

  const recipe_config::RecipeConfig& config_;
  const recipe_config::InputReport& inputs_;
  std::optional<int64_t> settled_ranks_;
  int64_t num_ranks_;
};

}  // namespace dsft::apps

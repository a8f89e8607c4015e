#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "rl/grpo_config.h"

namespace dsft::rl {

/// What the rewards said of N completions, over all ranks, the completions of a prompt one after another: F values for
/// each; NaN: the reward does not apply.
struct RewardTable {
  std::vector<double> values;  ///< [N, F]
  int64_t num_rewards = 1;     ///< F

  int64_t num_completions() const { return static_cast<int64_t>(values.size()) / num_rewards; }
};

struct AdvantageRules {
  int64_t num_generations = 8;       ///< G: completions of a prompt; 1 in evaluation at the least
  std::vector<double> weights = {};  ///< [F]; empty: all 1
  Aggregation aggregation = Aggregation::kSumThenNormalize;
  ScaleRewards scale = ScaleRewards::kGroup;
};

struct Advantages {
  std::vector<double> values;   ///< [N]; 0 where no reward applies
  std::vector<double> rewards;  ///< [N]: weighted sums; NaN where no reward applies
  double share_without_deviation =
      0;  ///< of the completions: their rewards do not deviate (TRL's frac_reward_zero_std)
};

/// Advantages as TRL computes them (docs/grpo.md), in double. N must be whole groups.
Advantages compute_advantages(const RewardTable& table, const AdvantageRules& rules);

/// Mean of those that are not NaN; NaN without any.
double mean_of_scored(std::span<const double> values);
/// Their standard deviation, by the number less one; NaN below two.
double deviation_of_scored(std::span<const double> values);

}  // namespace dsft::rl

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "rl/advantages.h"
#include "rl/generation_batch.h"
#include "rl/grpo_config.h"

namespace dsft::rl {

/// What is known of a completion once it was judged.
struct Judgement {
  int64_t group = 0, generation = 0;
  int64_t num_tokens = 0;
  bool is_truncated = false;  ///< its length ended it
  bool has_failed = false;    ///< a reward could not be had: it takes no part in its group
  std::vector<std::optional<double>> rewards;
};

/// The judgements of all ranks in the order of groups and generations, and what follows from them.
class JudgedRound {
 public:
  /// `own`: of this rank, as many as of any. Collective.
  JudgedRound(const std::vector<Judgement>& own, const GrpoConfig& config, const std::vector<double>& weights,
              const GenerationBatch& batch, comm::Communicator& communicator);

  double advantage_of(const Judgement& judgement) const;
  /// The weighted sum; NaN where no reward applies.
  double reward_of(const Judgement& judgement) const;
  /// The value of a reward; NaN where it does not apply, or a reward of the completion failed.
  double reward(int64_t group, int64_t generation, size_t function) const {
    return table_.values[place_of(group, generation) * static_cast<size_t>(table_.num_rewards) + function];
  }
  int64_t num_completions() const { return static_cast<int64_t>(num_tokens_.size()); }
  int64_t num_failed() const { return num_failed_; }
  int64_t num_tokens() const;
  /// By TRL's names: reward, reward_std, frac_reward_zero_std, rewards/<name>/{mean, std}, completions/*; and
  /// rewards/failed, the number of completions of which a reward failed.
  /// `names`: of the rewards.
  std::map<std::string, double> metrics(const std::vector<std::string>& names) const;

 private:
  size_t place_of(int64_t group, int64_t generation) const {
    return static_cast<size_t>(group * num_generations_ + generation);
  }

  int64_t num_generations_, num_failed_ = 0;
  std::vector<double> num_tokens_;
  std::vector<bool> is_truncated_;
  RewardTable table_;
  Advantages advantages_;
};

}  // namespace dsft::rl

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "rl/advantages.h"
#include "rl/generation_batch.h"
#include "rl/grpo_config.h"
#include "rl/judgements.h"

namespace dsft::rl {

/// The judgements of all ranks in the order of groups and generations, and what follows from them.
class JudgedRound {
 public:
  /// `own`: of this rank; those of all ranks are the round's. Collective.
  JudgedRound(const std::vector<Judgement>& own, const GrpoConfig& config, const std::vector<double>& weights,
              const GenerationBatch& batch, comm::Communicator& communicator);

  double advantage_of(int64_t group, int64_t generation) const {
    return advantages_.values[place_of(group, generation)];
  }
  /// The weighted sum; NaN where no reward applies, or one of the completion failed.
  double reward_of(int64_t group, int64_t generation) const { return advantages_.rewards[place_of(group, generation)]; }
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

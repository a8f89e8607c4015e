#pragma once

#include <vector>

#include "rl/pooled_round.h"
#include "rl/prompt_rows.h"
#include "rl/rollout_plan.h"
#include "rl/rollout_sampler.h"

namespace dsft::rl {

/// The answers of an ensemble that are decoded from a pool of its agents' last hidden states, by the policy as it is
/// (docs/agents.md).
class AgentPool {
 public:
  /// Borrows all of it; `parts.pool` has the weights.
  AgentPool(const GrpoConfig& config, const RolloutParts& parts, const PromptRows& prompts)
      : config_(config), parts_(parts), prompts_(prompts) {}

  /// Answers once each prompt of which the first agent's first completion is among these slots; where weights are
  /// learned, also measures their loss by the right answers of the rows. Collective where parameters are sharded.
  std::vector<PooledAnswer> answer(const std::vector<Slot>& slots) const;

 private:
  std::vector<double> decode(const std::vector<int64_t>& rows) const;
  double judge(int64_t row, const generate::Completion& completion) const;
  std::vector<int32_t> right_answer(int64_t row) const;
  void add_loss(int64_t row, const std::vector<int32_t>& right, PooledAnswer& answer) const;

  const GrpoConfig& config_;
  const RolloutParts& parts_;
  const PromptRows& prompts_;
  nn::BlockRunner runner_;
};

}  // namespace dsft::rl

#pragma once

#include <map>
#include <string>
#include <vector>

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

  /// Answers each prompt of the round that these are this rank's slots of, and then, where weights are learned, moves
  /// them by the right answers of its rows. Gives ensemble/accuracy, and of learned weights ensemble/loss (nats for a
  /// token of the right answers, before the move) and agents/<name>/pool_weight (after it). Collective.
  std::map<std::string, double> answer(const std::vector<Slot>& slots);

 private:
  std::vector<int64_t> choose_prompts(const std::vector<Slot>& slots) const;
  double judge(int64_t row, const generate::Completion& completion) const;
  void add_accuracy(const std::vector<int64_t>& rows, std::map<std::string, double>& metrics);
  void learn(const std::vector<int64_t>& rows, std::map<std::string, double>& metrics);
  std::vector<int32_t> right_answer(int64_t row) const;
  void add_loss(int64_t row, const std::vector<int32_t>& answer, std::vector<double>& sums);

  const GrpoConfig& config_;
  const RolloutParts& parts_;
  const PromptRows& prompts_;
  nn::BlockRunner runner_;
};

}  // namespace dsft::rl

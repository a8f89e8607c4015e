#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "rl/ensemble_config.h"
#include "rl/generation_batch.h"
#include "rl/judged_round.h"
#include "rl/rollout_plan.h"
#include "rl/vote.h"

namespace dsft::rl {

/// What the agents of an ensemble answered in a round, on all ranks, and how far they agree (docs/agents.md).
class AgentRound {
 public:
  /// `answers`: of this rank's slots. `tolerance`: numbers so near are the same answer. Collective.
  AgentRound(const std::vector<Slot>& slots, const Ballot& answers, const EnsembleSettings& settings, double tolerance,
             const GenerationBatch& batch, comm::Communicator& communicator);

  const std::optional<std::string>& answer_of(const Slot& slot) const {
    return answers_[place_of(slot.group, slot.generation)];
  }
  /// The share of the other agents, by their weights, whose answer of the same number to the same prompt is the same.
  double agreement_of(const Slot& slot) const { return agreements_[place_of(slot.group, slot.generation)]; }

  /// agents/<name>/consistency and ensemble/consistency: means of agreement_of. Where a reward of the recipe judges
  /// answers (`math_answer`: its place among the rewards), agents/<name>/accuracy and ensemble/accuracy: the shares of
  /// an agent's answers, and of those that the agents elect, that are right; without rows that
  /// cannot be judged. Not the latter where the ensemble's answers are decoded (AgentPool).
  std::map<std::string, double> metrics(const JudgedRound& judged, std::optional<size_t> math_answer) const;

 private:
  size_t place_of(int64_t group, int64_t generation) const {
    return static_cast<size_t>(group * batch_.num_generations + generation);
  }
  void gather(const std::vector<Slot>& slots, const Ballot& answers, comm::Communicator& communicator);
  void count_votes(double tolerance);
  /// 1 or 0: whether the elected answer is right, 0 where nobody has one; NaN where math_answer judged none of them.
  double is_vote_right(size_t vote, const JudgedRound& judged, size_t math_answer) const;

  EnsembleSettings settings_;
  GenerationBatch batch_;
  Ballot answers_;                              // by place_of
  std::vector<double> agreements_;              // by place_of
  std::vector<std::optional<size_t>> elected_;  // agent, by prompt and generation
};

}  // namespace dsft::rl

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "data/example_builder.h"
#include "generate/engine.h"
#include "model/causal_lm.h"
#include "rewards/scorer.h"
#include "rl/advantages.h"
#include "rl/agent_round.h"
#include "rl/completions_log.h"
#include "rl/grpo_config.h"
#include "rl/judged_round.h"
#include "rl/pool_weights.h"
#include "rl/pooled_round.h"
#include "rl/prompt_rows.h"
#include "rl/reference_policy.h"
#include "rl/rollout_plan.h"
#include "watchdog/heart.h"
#include "zero/parameter_shards.h"

namespace dsft::rl {

/// Told how many of this rank's completions are done.
using OnSampled = std::function<void(int64_t done, int64_t total)>;

/// What rollouts are made with; what is referred to outlives them.
struct RolloutParts {
  model::CausalLm& model;
  zero::ParameterShards* shards = nullptr;  ///< whole while answers are sampled; null: nothing is sharded
  nn::BlockHooks* hooks = nullptr;
  std::shared_ptr<const data::TextAssets> assets;
  comm::Communicator& communicator;  ///< over CPU tensors
  at::Device device;
  uint64_t seed = 42;
  const Logger& logger;
  std::shared_ptr<ReferencePolicy> reference = {};  ///< with beta
  std::shared_ptr<rewards::Scorer> scorer;          ///< of these rewards
  std::vector<rewards::RewardConfig> rewards;
  std::vector<double> reward_weights;      ///< of each
  std::shared_ptr<PoolWeights> pool = {};  ///< by which an ensemble's answers are decoded; null: none are
  double max_failed_rewards = 0.1;
  bool isolates_rows = false;  ///< answers and the passes over them agree to the bit (EngineOptions::isolates_rows)
  std::shared_ptr<CompletionsLog> completions = {};  ///< null: they are written nowhere
  watchdog::Heart* heart = nullptr;                  ///< is told what is done; null: nobody
  OnSampled on_sampled = {};                         ///< undefined: nobody is told
  /// Whether the run was asked to stop, which ends a round before it is whole. Undefined: nothing does.
  std::function<bool()> must_stop = {};
};

/// What the rewards of a completion are called: those of the recipe, and with agents their agreement.
std::vector<std::string> names_of_rewards(const std::vector<rewards::RewardConfig>& rewards, const GrpoConfig& config);

/// A completion and what it is worth.
struct Rollout {
  Slot slot;
  generate::Completion completion;
  std::vector<std::optional<double>> rewards;  ///< by names_of_rewards
  double reward = 0;                           ///< their weighted sum; NaN where none applies
  double advantage = 0;
  bool has_failed = false;                 ///< a reward could not be had
  bool is_left_out = false;                ///< it was cut, and truncated completions are masked
  std::optional<std::string> answer = {};  ///< with agents: what it votes for
};

/// Completions of this rank and what its rewards said of them, in the order of their slots.
struct Answers {
  std::vector<Slot> slots = {};
  std::vector<generate::Completion> completions = {};
  std::vector<Judgement> judgements = {};
  std::vector<int64_t> num_failures = {};  ///< of each function; empty: nothing was asked yet
  std::vector<PooledAnswer> pooled = {};   ///< of an ensemble that decodes its answers
  double sampling_seconds = 0;
  double waiting_seconds = 0;  ///< for rewards, after the last answer
  bool is_cut = false;         ///< asked to stop: they are not whole, and of no use

  void append(Answers more);
};

/// A round's completions on this rank, and what is reported of all.
struct Round {
  std::vector<Rollout> rollouts = {};
  JudgedRound judged;
  std::optional<PooledRound> pooled = {};      ///< of an ensemble that decodes its answers
  std::map<std::string, double> metrics = {};  ///< by TRL's names; equal on all ranks
  std::optional<std::string> fault = {};       ///< too many rewards failed; equal on all ranks
};

/// What completions are sampled for.
enum class Purpose { kTraining, kEvaluation };

/// Answers prompts with the policy as it is and has the answers judged while others are still being sampled.
class RolloutSampler final {
 public:
  /// `most_at_once`: completions of a round on this rank. Borrows `parts` and `prompts`.
  RolloutSampler(const GrpoConfig& config, const RolloutParts& parts, const PromptRows& prompts, int64_t most_at_once);

  /// The slots of this rank in round `number` of the run: answer() and judge(). `step`: the update that is next, for
  /// reports. Adds rollout/* to the metrics. Nothing: some rank was asked to stop before its part was done. Collective.
  std::optional<Round> sample(const std::vector<Slot>& slots, const GenerationBatch& batch, int64_t number,
                              int64_t step);

  /// Answers these slots and has the answers judged. Collective only where parameters are sharded: else each rank may
  /// ask as often as it likes.
  Answers answer(const std::vector<Slot>& slots, int64_t number, int64_t step);
  /// What follows from the answers of all ranks to all slots of a round. Collective.
  Round judge(Answers own, const GenerationBatch& batch, int64_t step) const;

  /// Writes a round into completions.jsonl, as that of update `step`, or of an evaluation behind it. Collective.
  void log(const Round& round, int64_t step, Purpose purpose) const;

 private:
  std::vector<generate::Completion> generate(const std::vector<Slot>& slots, int64_t number, int64_t step);
  std::optional<AgentRound> hear_agents(const std::vector<Slot>& slots,
                                        const std::vector<generate::Completion>& answers,
                                        const GenerationBatch& batch) const;
  nlohmann::ordered_json record(const Rollout& rollout, int64_t step, Purpose purpose) const;
  rewards::Sample sample_of(const Slot& slot, const generate::Completion& completion) const;

  GrpoConfig config_;
  const RolloutParts& parts_;
  const PromptRows& prompts_;
  nn::BlockRunner runner_;
  int64_t most_at_once_;
  std::optional<generate::Engine> engine_;  // made for the first round, when all weights are there
};

}  // namespace dsft::rl

#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rewards/scorer.h"
#include "rl/grpo_config.h"
#include "rl/pass_at_k.h"
#include "rl/prompt_rows.h"
#include "rl/rollout_sampler.h"
#include "train/evaluation.h"

namespace dsft::rl {

/// When a completion passes: a reward of it, or their weighted sum, is at least a number.
struct PassRule {
  std::optional<size_t> reward = 0;  ///< of grpo.rewards; none: the weighted sum
  double threshold = 1.0;
};

/// What a policy is evaluated with; what is referred to outlives the evaluation.
struct PolicyEvaluationParts {
  std::shared_ptr<const data::TextAssets> assets;
  std::shared_ptr<rewards::Scorer> scorer;  ///< of these rewards, idle while an evaluation begins
  std::vector<rewards::RewardConfig> rewards;
  std::vector<double> reward_weights;                ///< of each
  std::shared_ptr<PoolWeights> pool = {};            ///< as RolloutParts'
  std::shared_ptr<CompletionsLog> completions = {};  ///< of the run; null: completions are written nowhere
  double max_failed_rewards = 0.1;
  bool isolates_rows = false;  ///< as in RolloutParts
  PassRule pass = {};
  at::Device device;
  uint64_t seed = 42;  ///< of the run
  const Logger& logger;
  bool weights_move = false;             ///< from one evaluation to the next (ZeRO-3): the engine lives for one of them
  watchdog::Heart* heart = nullptr;      ///< is told what is done; null: nobody
  OnSampled on_sampled = {};             ///< as in RolloutParts
  std::function<bool()> must_stop = {};  ///< likewise
};

/// A policy by its rewards: it answers each prompt num_generations_eval times (else num_generations), with agents as
/// each of them, sampled as in training, and the answers are judged as a round of training is. Gives, by TRL's names
/// behind eval_, what a round's rewards, lengths, agents and ensemble come to (Round::metrics), and eval_pass@<k>
/// (GrpoConfig::reported_k; with agents the mean over all of their groups); num_rows (prompts), num_completions,
/// num_tokens (sampled). Completions are written into the run's completions.jsonl.
///
/// The random numbers of an answer belong to (seed, prompt, agent, answer): any evaluation of the same weights gives
/// the same numbers, in fp32 on the CPU and with isolated rows on any number of ranks, and none shares them with a
/// round of training. Rewards are told step 0. A pool's weights are used as they are.
class PolicyEvaluation final : public train::Evaluation {
 public:
  PolicyEvaluation(const GrpoConfig& config, PromptRows prompts, PolicyEvaluationParts parts);
  ~PolicyEvaluation() override;

  std::string name() const override { return "rewards"; }
  std::optional<std::map<std::string, double>> run(model::CausalLm& model, comm::Communicator& communicator,
                                                   const train::EvaluationMoment& moment = {}) override;
  std::optional<std::string> fault() const override { return fault_; }

 private:
  struct Sampling;
  RolloutSampler& prepare(model::CausalLm& model, comm::Communicator& communicator);
  GenerationBatch one_round() const;
  OnSampled on_sampled() const;
  std::vector<Slot> slots_of(int64_t prompt) const;
  std::optional<Answers> answer_prompts(RolloutSampler& sampler, comm::Communicator& communicator,
                                        const train::StopCheck& must_stop);
  std::optional<std::map<std::string, double>> judge(Answers own, const RolloutSampler& sampler, int64_t step);
  std::map<std::string, double> measure(const Round& round) const;

  GrpoConfig config_;  // with the completions of a prompt in evaluation
  PromptRows prompts_;
  PolicyEvaluationParts parts_;
  std::unique_ptr<Sampling> sampling_;  // of the last run
  std::optional<std::string> fault_;
  int64_t num_before_ = 0, num_own_ = 0;  // completions of this rank in an evaluation: sampled in earlier parts; in all
};

}  // namespace dsft::rl

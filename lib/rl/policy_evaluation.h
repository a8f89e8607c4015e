#pragma once

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
  std::vector<double> reward_weights;  ///< of each
  double max_failed_rewards = 0.1;
  bool isolates_rows = false;  ///< as in RolloutParts
  PassRule pass = {};
  at::Device device;
  uint64_t seed = 42;  ///< of the run
  const Logger& logger;
  watchdog::Heart* heart = nullptr;  ///< is told what is done; null: nobody
};

/// A policy by its rewards: it answers each prompt num_generations_eval times (else num_generations), sampled as in
/// training, and the answers are judged. Gives, by TRL's names, eval_reward, eval_reward_std,
/// eval_frac_reward_zero_std, eval_rewards/<name>/{mean, std}, eval_completions/*, and eval_pass@<k>
/// (GrpoConfig::reported_k); num_rows (prompts), num_completions, num_tokens (sampled).
///
/// The random numbers of an answer belong to (seed, prompt, answer): any evaluation of the same weights gives the same
/// numbers, in fp32 on the CPU and with isolated rows on any number of ranks, and none shares them with a round of
/// training. Rewards are told step 0.
class PolicyEvaluation final : public train::Evaluation {
 public:
  PolicyEvaluation(const GrpoConfig& config, PromptRows prompts, PolicyEvaluationParts parts);

  std::string name() const override { return "rewards"; }
  std::optional<std::map<std::string, double>> run(model::CausalLm& model, comm::Communicator& communicator,
                                                   const train::StopCheck& must_stop = {},
                                                   nn::BlockHooks* hooks = nullptr) override;
  std::optional<std::string> fault() const override { return fault_; }

 private:
  struct Own;
  bool answer_prompts(Own& own, RolloutSampler& sampler, const comm::Communicator& communicator,
                      const train::StopCheck& must_stop) const;
  std::map<std::string, double> measure(const std::vector<Judgement>& all) const;

  GrpoConfig config_;
  int64_t num_generations_;
  PromptRows prompts_;
  PolicyEvaluationParts parts_;
  std::optional<std::string> fault_;
};

}  // namespace dsft::rl

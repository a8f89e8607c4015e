#include "recipe/build_policy_evaluation.h"

#include <algorithm>

#include "base/error.h"
#include "data/row_file.h"
#include "evaluate/evaluation_rows.h"
#include "io/json.h"
#include "recipe_config/input_checks.h"
#include "rewards/row_columns.h"

namespace dsft::recipe {
namespace {

using recipe_config::RecipeConfig;

rl::PromptRows read_evaluation_prompts(const RecipeConfig& config, const data::TextAssets& assets, uint64_t seed) {
  const data::PromptBuilder prompts(
      assets, io::parse_ordered_json(config.data.chat_template_kwargs, "data.chat_template_kwargs", ErrorKind::kUsage));
  rl::PromptRows all;
  for (const evaluate::EvaluationRow& row : evaluate::read_evaluation_rows(config.data, seed, config.eval.num_samples))
    all.rows.push_back(rl::make_prompt_row(prompts, row.row, row.where));
  if (all.rows.empty()) fail(ErrorKind::kUsage, recipe_config::no_evaluation_rows(config));
  return all;
}

rl::PassRule pass_rule(const RecipeConfig& config) {
  rl::PassRule rule{.reward = 0, .threshold = config.eval.pass_threshold};
  if (!config.eval.pass_reward) return rule;
  const auto& rewards = config.grpo->judged_by.rewards;
  const auto found = std::find_if(rewards.begin(), rewards.end(), [&](const rewards::RewardConfig& reward) {
    return reward.metric_name() == *config.eval.pass_reward;
  });
  rule.reward.reset();  // the weighted sum
  if (found != rewards.end()) rule.reward = static_cast<size_t>(found - rewards.begin());
  return rule;
}

}  // namespace

std::unique_ptr<rl::PolicyEvaluation> build_policy_evaluation(const RecipeConfig& config,
                                                              std::shared_ptr<const data::TextAssets> assets,
                                                              const StartRewards& start_rewards,
                                                              const train::RunContext& context) {
  const rl::GrpoConfig& grpo = *config.grpo;
  if (grpo.ensemble.has_agents()) fail(ErrorKind::kUsage, "grpo.agents: an evaluation with agents is not built yet");
  rl::PromptRows prompts = read_evaluation_prompts(config, *assets, context.seed);
  require_columns(prompts, grpo.judged_by.rewards);
  return std::make_unique<rl::PolicyEvaluation>(
      grpo, std::move(prompts),
      rl::PolicyEvaluationParts{.assets = std::move(assets),
                                .scorer = start_rewards(),
                                .rewards = grpo.judged_by.rewards,
                                .reward_weights = rewards::weights_of(grpo.judged_by.rewards, grpo.reward_weights),
                                .max_failed_rewards = grpo.judged_by.max_failed_rewards,
                                .isolates_rows = config.training.full_determinism,
                                .pass = pass_rule(config),
                                .device = context.device,
                                .seed = context.seed,
                                .logger = context.logger,
                                .heart = context.heart});
}

void require_columns(const rl::PromptRows& prompts, const std::vector<rewards::RewardConfig>& rewards) {
  const std::vector<std::string> needed = rewards::needed_columns(rewards);
  for (const rl::PromptRow& row : prompts.rows) {
    try {
      rewards::require_columns(row.columns, needed);
    } catch (const Error& error) {
      throw data::at_row(error, row.where);
    }
  }
}

}  // namespace dsft::recipe

#include "recipe/build_policy_evaluation.h"

#include <algorithm>

#include "base/error.h"
#include "data/row_file.h"
#include "evaluate/evaluation_rows.h"
#include "io/json.h"
#include "recipe_config/input_checks.h"
#include "rewards/compared_columns.h"

namespace dsft::recipe {
namespace {

using recipe_config::RecipeConfig;

rl::PromptRows read_evaluation_prompts(const RecipeConfig& config, const data::TextAssets& assets, uint64_t seed) {
  const data::PromptBuilder prompts(
      assets, io::parse_ordered_json(config.data.chat_template_kwargs, "data.chat_template_kwargs", ErrorKind::kUsage));
  const std::vector<rl::AgentConfig>& agents = config.grpo->ensemble.agents;
  rl::PromptRows all{.num_agents = config.grpo->ensemble.num_askers()};
  for (const evaluate::EvaluationRow& row : evaluate::read_evaluation_rows(config.data, seed, config.eval.num_samples))
    rl::append_prompts(prompts, row.row, row.where, agents, all);
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

std::unique_ptr<rl::PolicyEvaluation> build_policy_evaluation(
    const RecipeConfig& config, std::shared_ptr<const data::TextAssets> assets, const StartRewards& start_rewards,
    std::shared_ptr<rl::PoolWeights> pool, std::shared_ptr<rl::CompletionsLog> completions,
    const train::RunContext& context, rl::OnSampled on_sampled) {
  const rl::GrpoConfig& grpo = *config.grpo;
  rl::PromptRows prompts = read_evaluation_prompts(config, *assets, context.seed);
  require_columns(prompts, grpo.judged_by.rewards);
  return std::make_unique<rl::PolicyEvaluation>(
      grpo, std::move(prompts),
      rl::PolicyEvaluationParts{.assets = std::move(assets),
                                .scorer = start_rewards(),
                                .rewards = grpo.judged_by.rewards,
                                .reward_weights = rewards::weights_of(grpo.judged_by.rewards, grpo.reward_weights),
                                .pool = std::move(pool),
                                .completions = std::move(completions),
                                .max_failed_rewards = grpo.judged_by.max_failed_rewards,
                                .isolates_rows = config.training.full_determinism,
                                .pass = pass_rule(config),
                                .device = context.device,
                                .seed = context.seed,
                                .logger = context.logger,
                                .weights_move = config.zero.stage == 3,
                                .heart = context.heart,
                                .on_sampled = std::move(on_sampled),
                                .must_stop = [&context] { return context.is_asked_to_stop(); }});
}

std::shared_ptr<rl::PoolWeights> load_pool(const RecipeConfig& config, const Logger& logger) {
  const rl::EnsembleSettings& ensemble = config.grpo->ensemble;
  if (!ensemble.has_pool()) return nullptr;
  auto pool = std::make_shared<rl::PoolWeights>(ensemble);
  if (!pool->are_learned()) return pool;
  const std::filesystem::path weights = config.adapter() ? std::filesystem::path(*config.adapter())
                                                         : spec::find_model(config.model.path, config.model.revision);
  if (rl::PoolWeights::are_in(weights))
    pool->load(weights);
  else
    logger.info(weights.string(),
                " has no learned weights of the agents: the ensemble answers as when training begins");
  return pool;
}

void require_columns(const rl::PromptRows& prompts, const std::vector<rewards::RewardConfig>& rewards) {
  const rewards::ComparedColumns compared(rewards);
  for (const rl::PromptRow& row : prompts.rows) {
    try {
      compared.require_in(row.columns);
    } catch (const Error& error) {
      throw data::at_row(error, row.where);
    }
  }
}

}  // namespace dsft::recipe

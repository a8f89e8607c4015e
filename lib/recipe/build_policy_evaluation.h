#pragma once

#include <functional>
#include <memory>

#include "data/example_builder.h"
#include "recipe_config/recipe_config.h"
#include "rewards/scorer.h"
#include "rl/completions_log.h"
#include "rl/policy_evaluation.h"
#include "rl/pool_weights.h"
#include "rl/prompt_rows.h"
#include "train/run_context.h"

namespace dsft::recipe {

/// Gives the scorer of grpo.rewards, its programs ready.
using StartRewards = std::function<std::shared_ptr<rewards::Scorer>()>;

/// The evaluation of a grpo recipe on its evaluation rows (data.eval, then what data.eval_fraction holds out), of which
/// eval.num_samples are read. `start_rewards`: gives the scorer of grpo.rewards; called when the rows are found to be
/// good. `pool`: where agents' answers are decoded from one, else null. `completions`: of the run that evaluates; null:
/// what is sampled is written nowhere. `on_sampled`: told while it samples. Throws kUsage where there is no row, kData
/// for a bad one, and what `start_rewards` throws.
std::unique_ptr<rl::PolicyEvaluation> build_policy_evaluation(
    const recipe_config::RecipeConfig& config, std::shared_ptr<const data::TextAssets> assets,
    const StartRewards& start_rewards, std::shared_ptr<rl::PoolWeights> pool,
    std::shared_ptr<rl::CompletionsLog> completions, const train::RunContext& context, rl::OnSampled on_sampled = {});

/// The pool of the recipe's agents for weights that are judged as they lie there (lora.adapter, else model.path): with
/// the learned weights that are saved beside them, else with those that training begins with. Null where the recipe has
/// no pool. Throws kCheckpoint.
std::shared_ptr<rl::PoolWeights> load_pool(const recipe_config::RecipeConfig& config, const Logger& logger);

/// Every row needs what the built-in functions compare with: said before anything is sampled. Throws kData, with the
/// row's name.
void require_columns(const rl::PromptRows& prompts, const std::vector<rewards::RewardConfig>& rewards);

}  // namespace dsft::recipe

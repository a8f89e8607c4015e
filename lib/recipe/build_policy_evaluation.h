#pragma once

#include <memory>

#include "data/example_builder.h"
#include "recipe_config/recipe_config.h"
#include "rewards/scorer.h"
#include "rl/policy_evaluation.h"
#include "rl/prompt_rows.h"
#include "train/run_context.h"

namespace dsft::recipe {

/// The evaluation of a grpo recipe on its evaluation rows (data.eval, then what data.eval_fraction holds out), of which
/// eval.num_samples are read. `scorer`: of grpo.rewards. Throws kUsage where there is no row, kData for a bad one.
std::unique_ptr<rl::PolicyEvaluation> build_policy_evaluation(const recipe_config::RecipeConfig& config,
                                                              std::shared_ptr<const data::TextAssets> assets,
                                                              std::shared_ptr<rewards::Scorer> scorer,
                                                              const train::RunContext& context);

/// Every row needs what the built-in functions compare with: said before anything is sampled. `key`: of the recipe, for
/// the message. Throws kData.
void require_columns(const rl::PromptRows& prompts, const std::vector<rewards::RewardConfig>& rewards,
                     const std::string& key);

}  // namespace dsft::recipe

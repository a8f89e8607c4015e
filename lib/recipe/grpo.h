#pragma once

#include "recipe_config/recipe_config.h"
#include "train/job.h"
#include "train/run_context.h"

namespace dsft::recipe {

/// Reinforcement learning from rewards: a policy answers prompts, the answers are judged, and it is trained to answer
/// as the better ones of each group (docs/grpo.md).
train::Job build_grpo_job(const recipe_config::RecipeConfig& config, train::RunContext& context);

}  // namespace dsft::recipe

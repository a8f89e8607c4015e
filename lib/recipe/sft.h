#pragma once

#include "recipe_config/recipe_config.h"
#include "train/job.h"
#include "train/run_context.h"

namespace dsft::recipe {

/// Supervised fine-tuning on text: LoRA or all weights. Collective: the data is prepared by rank 0 and opened by the
/// others.
train::Job build_sft_job(const recipe_config::RecipeConfig& config, train::RunContext& context);

}  // namespace dsft::recipe

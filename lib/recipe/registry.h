#pragma once

#include "recipe_config/recipe_config.h"
#include "train/job.h"
#include "train/run_context.h"

namespace dsft::recipe {

/// The job of a recipe, by the row of its kind (registry.cpp).
train::Job build_job(const recipe_config::RecipeConfig& config, train::RunContext& context);

}  // namespace dsft::recipe

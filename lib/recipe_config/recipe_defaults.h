#pragma once

#include "config/node.h"
#include "recipe_config/recipe_config.h"

namespace dsft::recipe_config {

/// Puts the defaults that recipes of a kind have (GRPOConfig's in a grpo recipe) in place of a new config's.
void apply_recipe_defaults(RecipeKind kind, RecipeConfig& config);
/// The same for the kind that `recipe` names, before its keys are read over them.
void apply_recipe_defaults(const config::Node& recipe, RecipeConfig& config);

/// What metric_for_best_model is where it is not written, without "eval_".
const char* default_best_metric(RecipeKind recipe);

}  // namespace dsft::recipe_config

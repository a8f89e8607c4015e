#pragma once

#include <string>

#include "recipe_config/recipe_config.h"

namespace dsft::recipe_config {

/// Puts HOME in place of a leading "~/" in every path of a recipe, as TrainingArguments does for output_dir; YAML does
/// not go through a shell. Paths stay as they are where HOME is not set.
void expand_home(RecipeConfig& config);
/// The same for one path.
void expand_home(std::string& path);

}  // namespace dsft::recipe_config

#pragma once

#include <vector>

#include "config/section.h"
#include "recipe_config/recipe_config.h"

namespace dsft::recipe_config {

/// A run replaces the weight files of output_dir and deletes its old checkpoints: a fault where that would be the model
/// or the adapter that it reads, under whatever name. `model_directory`: where the model was found.
std::vector<config::Fault> check_output_dir(const RecipeConfig& config, const config::Written& written,
                                            const std::filesystem::path& model_directory);

}  // namespace dsft::recipe_config

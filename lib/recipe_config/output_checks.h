#pragma once

#include <vector>

#include "config/section.h"
#include "recipe_config/recipe_config.h"

namespace dsft::recipe_config {

/// A run replaces the weight files of output_dir and deletes its old checkpoints: a fault where that would be the model
/// or the adapter that it reads, under whatever name. `model_directory`: where the model was found.
std::vector<config::Fault> check_output_dir(const RecipeConfig& config, const config::Written& written,
                                            const std::filesystem::path& model_directory);

/// What can be seen of a checkpoint to go on with before its bytes are read. Throws kCheckpoint where
/// training.resume_from_checkpoint names a folder that is no whole checkpoint, or one of another seed.
void check_resume_from(const RecipeConfig& config);

}  // namespace dsft::recipe_config

#pragma once

#include <filesystem>

#include "config/section.h"
#include "recipe_config/recipe_config.h"
#include "spec/model_spec.h"

namespace dsft::recipe_config {

/// What a recipe asks of its model and cannot get, or that has no effect on it: names under `lora` that match no module
/// (but those of an adapter on disk), more tokens a row than the model knows positions. `top`: the whole recipe.
void check_on_model(const RecipeConfig& config, const spec::ModelSpec& spec, config::Section& top);

/// Warns of each key of data.chat_template_kwargs that no chat template of the run reads. Throws kCheckpoint for a
/// template that cannot be read.
void check_template_kwargs(const RecipeConfig& config, const std::filesystem::path& text_folder, config::Section& top);

}  // namespace dsft::recipe_config

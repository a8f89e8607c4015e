#pragma once

#include <vector>

#include "config/section.h"
#include "recipe_config/recipe_config.h"
#include "spec/model_spec.h"

namespace dsft::recipe_config {

/// With lora.adapter the adapter's own settings are in force: one fault per written key of `lora`, and of `grpo`, that
/// asks for something else. Targets are compared by the modules that they choose, so `all-linear` agrees with the names
/// that PEFT wrote for it.
std::vector<config::Fault> check_adapter_keys(const RecipeConfig& config, const config::Written& written,
                                              const lora::LoraConfig& adapter, const spec::ModelSpec& spec);

/// Puts the settings of lora.adapter, where there is one, into the recipe, so that resolved.yaml says what was used.
/// Throws kCheckpoint where the adapter cannot be read.
void adopt_adapter(RecipeConfig& config);

}  // namespace dsft::recipe_config

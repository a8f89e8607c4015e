#pragma once

#include <vector>

#include "config/section.h"
#include "recipe_config/recipe_config.h"

namespace dsft::recipe_config {

/// Checks a recipe whose values could all be read: each section's own validate, then what lies between sections. Only
/// written keys can contradict.
void validate(const RecipeConfig& config, const config::Written& written, std::vector<config::Fault>& faults,
              std::vector<config::Fault>& warnings);

}  // namespace dsft::recipe_config

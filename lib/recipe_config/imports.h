#pragma once

#include <vector>

#include "config/node.h"
#include "recipe_config/run_settings.h"

namespace dsft::recipe_config {

/// Reads the files under `deepspeed` (or `training.deepspeed`) and `accelerate` into the recipe's tree and takes those
/// keys out of it: the tree then is a recipe that says the same by its own keys. `deepspeed` may also be the
/// configuration itself, as a map.
void apply_imports(config::Node& recipe, RunSettings& run, std::vector<config::Fault>& faults,
                   std::vector<config::Fault>& warnings);

}  // namespace dsft::recipe_config

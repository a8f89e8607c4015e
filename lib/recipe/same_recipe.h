#pragma once

#include "comm/communicator.h"
#include "recipe_config/recipe_config.h"

namespace dsft::recipe {

/// Faults (kUsage) on a rank whose resolved recipe is not rank 0's, with the first key that differs; the others are
/// ended by its abort. Threads of tokenisation may differ: they follow the host's cores. Collective.
void require_same_recipe(const recipe_config::RecipeConfig& config, comm::Communicator& communicator);

}  // namespace dsft::recipe

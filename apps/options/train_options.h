#pragma once

#include <CLI/CLI.hpp>

#include "options/recipe_arguments.h"

namespace dsft::apps {

/// `dsft train`: one rank of a run.
struct TrainOptions {
  RecipeArguments recipe;
};

/// Adds the options of `dsft train`.
void add_options(CLI::App& command, TrainOptions& options);

}  // namespace dsft::apps

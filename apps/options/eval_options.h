#pragma once

#include <CLI/CLI.hpp>

#include "options/compute_options.h"
#include "options/recipe_arguments.h"

namespace dsft::apps {

/// `dsft eval`: the recipe's eval.metrics on its evaluation data.
struct EvalOptions {
  RecipeArguments recipe;
  ComputeOptions compute;
  bool is_json = false;
};

/// Adds the options of `dsft eval`.
void add_options(CLI::App& command, EvalOptions& options);

}  // namespace dsft::apps

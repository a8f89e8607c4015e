#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace dsft::apps {

/// `RECIPE [key.path=value ...]` of a command line.
struct RecipeArguments {
  std::string recipe;                  ///< path of the YAML file
  std::vector<std::string> overrides;  ///< "key.path=value"
};

/// Adds the positional arguments RECIPE and SETTING ... to a command.
void add_recipe_arguments(CLI::App& command, RecipeArguments& arguments);

}  // namespace dsft::apps

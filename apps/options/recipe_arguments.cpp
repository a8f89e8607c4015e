#include "options/recipe_arguments.h"

namespace dsft::apps {

void add_recipe_arguments(CLI::App& command, RecipeArguments& arguments) {
  command.add_option("RECIPE", arguments.recipe, "Recipe file (YAML)")->required();
  command.add_option("key.path=value", arguments.overrides, "Settings that replace the recipe's, values in YAML");
}

}  // namespace dsft::apps

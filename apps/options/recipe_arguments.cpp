#include "options/recipe_arguments.h"

namespace dsft::apps {

void add_recipe_arguments(CLI::App& command, RecipeArguments& arguments) {
  command.add_option("RECIPE", arguments.recipe, "Recipe file (YAML)")->required();
  // not "key.path=value": from CLI11 2.4 on a name holds no '='
  command.add_option("SETTING", arguments.overrides, "key.path=value: replaces the recipe's setting; values in YAML");
}

}  // namespace dsft::apps

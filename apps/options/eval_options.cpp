#include "options/eval_options.h"

namespace dsft::apps {

void add_options(CLI::App& command, EvalOptions& options) {
  add_recipe_arguments(command, options.recipe);
  add_compute_options(command, options.compute, "the recipe's model.dtype", "the recipe's device");
  command.add_flag("--json", options.is_json, "One JSON object on stdout");
  command.footer("Example:\n  dsft eval recipe.yaml lora.adapter=runs/tools-lora eval.metrics=[loss,tool_call]");
}

}  // namespace dsft::apps

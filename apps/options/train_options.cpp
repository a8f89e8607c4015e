#include "options/train_options.h"

namespace dsft::apps {

void add_options(CLI::App& command, TrainOptions& options) {
  add_recipe_arguments(command, options.recipe);
  command.footer("Example:\n  dsft train recipes/sft/smollm2_135m_function_calling.yaml training.max_steps=20");
}

}  // namespace dsft::apps

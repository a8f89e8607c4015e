#include "options/init_model_options.h"

#include "options/bounds.h"

namespace dsft::apps {

void add_options(CLI::App& command, InitModelOptions& options) {
  command.add_option("--config", options.config, "config.json of the model to make")->required();
  command.add_option("--tokenizer", options.tokenizer, "Directory whose tokenizer is copied")->required();
  command.add_option("--output", options.output, "Directory to make")->required();
  command.add_option("--seed", options.seed, "Seed of the weights")->check(at_least(0))->capture_default_str();
  command.footer(
      "Example:\n  dsft init-model --config config.json --tokenizer models/SmolLM2-135M-Instruct --output "
      "models/random");
}

}  // namespace dsft::apps

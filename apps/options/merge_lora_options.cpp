#include "options/merge_lora_options.h"

namespace dsft::apps {

void add_options(CLI::App& command, MergeLoraOptions& options) {
  command.add_option("--base", options.base, "Base model directory, or a hub id in the local cache")->required();
  command.add_option("--adapter", options.adapter, "Adapter directory")->required();
  command.add_option("--output", options.output, "Directory to make")->required();
  add_dtype_option(command, options.dtype, "Type of the merged weights (default: the base's)");
  command.add_flag("--verify", options.is_verified, "Compare the logits of both on a fixed prompt");
  command.footer(
      "Example:\n  dsft merge-lora --base models/SmolLM2-135M-Instruct --adapter runs/tools-lora --output merged "
      "--verify");
}

}  // namespace dsft::apps

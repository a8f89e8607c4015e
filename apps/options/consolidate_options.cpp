#include "options/consolidate_options.h"

namespace dsft::apps {

void add_options(CLI::App& command, ConsolidateOptions& options) {
  command
      .add_option("--checkpoint,checkpoint", options.checkpoint,
                  "Checkpoint, or output_dir of a run, with sharded weights (sharded_weights.json)")
      ->required();
  command.add_option("-o,--output", options.output, "Directory to make")->required();
  command.footer("Example:\n  dsft consolidate --checkpoint runs/full/checkpoint-500 --output model");
}

}  // namespace dsft::apps

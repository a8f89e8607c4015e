#include "options/score_options.h"

namespace dsft::apps {

void add_options(CLI::App& command, ScoreOptions& options) {
  command.add_option("--model", options.model, "Model directory, or a hub id in the local cache")->required();
  command.add_option("--adapter", options.adapter, "Adapter directory");
  command.add_option("--input", options.input, "JSONL file of rows, or of {token_ids}")->required();
  command.add_option("--output", options.output, "JSONL file to write: {token_ids, log_probs, labels} a row")
      ->required();
  add_compute_options(command, options.compute);
  command.footer(
      "Example:\n  dsft score --model models/SmolLM2-135M-Instruct --input rows.jsonl --output scores.jsonl");
}

}  // namespace dsft::apps

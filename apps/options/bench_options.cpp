#include "options/bench_options.h"

#include "options/bounds.h"

namespace dsft::apps {

void add_options(CLI::App& command, BenchOptions& options) {
  command.add_option("KIND", options.kind, "train or decode")->required()->check(CLI::IsMember({"train", "decode"}));
  auto* source = command.add_option_group("model");
  source->add_option("--model", options.model, "Directory or hub id of the model whose config.json is measured");
  source->add_option("--config", options.config, "A config.json");
  source->require_option(1);
  add_compute_options(command, options.compute);
  command.add_option("--batch-size", options.batch_size, "Documents of a step, or sequences decoded together")
      ->check(at_least(1))
      ->capture_default_str();
  command.add_option("--length", options.length, "Tokens of a document or of a prompt")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 24))
      ->capture_default_str();
  command.add_option("--new-tokens", options.new_tokens, "decode: tokens generated for each prompt")
      ->check(at_least(1))
      ->capture_default_str();
  command.add_option("--steps", options.steps, "Measured repetitions, of which the median counts")
      ->check(at_least(1))
      ->capture_default_str();
  command.add_option("--warmup", options.warmup, "Repetitions before them")->check(at_least(0))->capture_default_str();
  command.add_option("--rank", options.rank, "train: rank of LoRA on q_proj, k_proj, v_proj, o_proj")
      ->check(at_least(1))
      ->capture_default_str();
  auto* full = command.add_flag("--full", options.is_full, "train: all weights instead of LoRA");
  command.add_option("--lora-dropout", options.lora_dropout, "train: dropout before the adapters")
      ->check(CLI::Range(0.0, 0.9))
      ->capture_default_str()
      ->excludes(full);
  auto* recompute = command.add_flag("--recompute", options.recomputes, "train: gradient_checkpointing: true");
  command
      .add_flag("--recompute-selectively", options.recomputes_selectively, "train: gradient_checkpointing: selective")
      ->excludes(recompute);
  command.add_flag("--no-cuda-graphs", options.without_cuda_graphs, "train: enqueue each operation on its own");
  command.add_flag("--json", options.is_json, "One JSON object on stdout");
  command.add_option("--profile", options.profile, "Writes a Chrome trace of one more repetition to this file");
  command.footer("Example:\n  dsft bench train --config recipes/configs/qwen3_0.6b.json --batch-size 8 --length 2048");
}

}  // namespace dsft::apps

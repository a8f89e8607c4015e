#include "options/generate_options.h"

#include "options/bounds.h"

namespace dsft::apps {

void add_options(CLI::App& command, GenerateOptions& options) {
  command.add_option("--model", options.model, "Model directory, or a hub id in the local cache")->required();
  command.add_option("--adapter", options.adapter, "Adapter directory");
  CLI::Option_group* source = command.add_option_group("input", "What to continue: one of these");
  source->add_option("--prompt", options.prompt, "A text, as it stands");
  source->add_option("--messages", options.messages,
                     "JSON file with a conversation: a list of messages, or {messages, tools}");
  source->add_option("--input", options.input, "JSONL file with a row a line");
  source->require_option(1);
  command.add_option("--max-new-tokens", options.max_new_tokens, "Longest answer in tokens")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  command.add_option("--temperature", options.temperature, "0: greedy")->check(CLI::Range(0.0, 100.0));
  command.add_option("--top-p", options.top_p, "Smallest set of tokens with this probability")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--top-k", options.top_k, "Most likely tokens to draw from; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24));
  command.add_option("--seed", options.seed, "Seed of the draws")->check(at_least(0))->capture_default_str();
  command.add_option("--output", options.output, "Write the results to this file");
  command.add_flag("--json", options.is_json,
                   "One JSON array on stdout: {prompt_token_ids, token_ids, text, finish_reason}");
  add_compute_options(command, options.compute);
  command.footer(
      "Example:\n  dsft generate --model models/SmolLM2-135M-Instruct --prompt 'Once upon a time' --temperature 0");
}

}  // namespace dsft::apps

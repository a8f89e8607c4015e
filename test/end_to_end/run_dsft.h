#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "process/child.h"
#include "support/temp_dir.h"

namespace dsft::test {

/// What a run of the program gave.
struct ProgramRun {
  int exit_code = 0;
  std::string out;
  std::string err;
};

/// Runs build/bin/dsft with these arguments, one CPU thread, a token cache of its own, these GPUs visible (none),
/// and these environment variables besides.
inline ProgramRun run_dsft(std::vector<std::string> arguments, const TempDir& folder, const std::string& gpus = "",
                           const std::vector<std::pair<std::string, std::string>>& environment = {}) {
  ProgramRun run;
  process::ChildOptions options;
  options.argv = {std::string(DSFT_BIN_DIR) + "/dsft"};
  options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
  options.environment = {
      {"DSFT_CACHE", (folder / "cache").string()}, {"OMP_NUM_THREADS", "1"}, {"CUDA_VISIBLE_DEVICES", gpus}};
  options.environment.insert(options.environment.end(), environment.begin(), environment.end());
  options.on_line = [&run](process::Stream stream, std::string_view line) {
    (stream == process::Stream::kStdout ? run.out : run.err) += std::string(line) + "\n";
  };
  const process::ExitStatus status = process::Child(std::move(options)).wait();
  run.exit_code = status.signal != 0 ? 128 + status.signal : status.exit_code;
  return run;
}

/// The objects of a file with one JSON object per line.
inline std::vector<nlohmann::json> read_lines(const std::filesystem::path& path) {
  std::vector<nlohmann::json> objects;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) objects.push_back(nlohmann::json::parse(line));
  return objects;
}

/// The losses of a run's updates, from its metrics.jsonl.
inline std::vector<double> losses_of(const std::filesystem::path& output_dir) {
  std::vector<double> losses;
  for (const auto& line : read_lines(output_dir / "metrics.jsonl"))
    if (line.contains("loss")) losses.push_back(line["loss"].get<double>());
  return losses;
}

/// Makes a random two-layer model with a small trained tokenizer, eight conversations, and a recipe; gives the recipe's
/// path.
inline std::filesystem::path make_tiny_job(const TempDir& folder, const std::string& sections) {
  const std::filesystem::path fixtures = std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures";
  folder.write(
      "config.json",
      R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 1024, "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "tie_word_embeddings": true, "initializer_range": 0.3, "rope_theta": 10000.0, "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2})");
  const ProgramRun made = run_dsft({"init-model", "--config", (folder / "config.json").string(), "--tokenizer",
                                    (fixtures / "data/tokenizer").string(), "--output", (folder / "model").string()},
                                   folder);
  if (made.exit_code != 0) throw std::runtime_error("init-model failed: " + made.err);
  std::string rows;
  for (int i = 0; i < 8; ++i)
    rows += nlohmann::json{{"messages",
                            {{{"role", "user"}, {"content", "What is number " + std::to_string(i) + "?"}},
                             {{"role", "assistant"},
                              {"content", "It is " + std::to_string(i * 7 % 10) + " and " +
                                              std::string(1, static_cast<char>('a' + i)) + "."}}}}}
                .dump() +
            "\n";
  folder.write("train.jsonl", rows);
  folder.write("chatml.jinja",
               "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if "
               "add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
  return folder.write("recipe.yaml",
                      "recipe: sft\noutput_dir: " + (folder / "run").string() +
                          "\nmodel: {path: " + (folder / "model").string() + ", dtype: fp32}\ndata: {train: [" +
                          (folder / "train.jsonl").string() + "], eval: [" + (folder / "train.jsonl").string() +
                          "], chat_template: " + (folder / "chatml.jinja").string() + ", packing: false}\n" + sections);
}

}  // namespace dsft::test

#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "options/compute_options.h"

namespace dsft::apps {

/// `dsft generate`. Values that are not written follow the checkpoint's generation_config.json.
struct GenerateOptions {
  std::string model;    ///< directory or hub id in the local cache
  std::string adapter;  ///< directory; empty: none
  // exactly one of these is written
  std::optional<std::string> prompt;  ///< text as it stands, no template
  std::string messages;               ///< JSON file: a list of messages, or {messages, tools}
  std::string input;                  ///< JSONL file of rows
  int64_t max_new_tokens = 256;
  std::optional<double> temperature;  ///< 0: greedy
  std::optional<double> top_p;
  std::optional<int64_t> top_k;
  int64_t seed = 42;
  std::string output;  ///< file; empty: stdout
  bool is_json = false;
  ComputeOptions compute;
};

/// Adds the options of `dsft generate`.
void add_options(CLI::App& command, GenerateOptions& options);

}  // namespace dsft::apps

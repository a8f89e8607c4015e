#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace dsft::apps {

/// `dsft init-model`: a checkpoint with random weights.
struct InitModelOptions {
  std::string config;     ///< a config.json
  std::string tokenizer;  ///< directory whose tokenizer files are copied
  std::string output;     ///< directory to make
  int64_t seed = 42;
};

/// Adds the options of `dsft init-model`.
void add_options(CLI::App& command, InitModelOptions& options);

}  // namespace dsft::apps

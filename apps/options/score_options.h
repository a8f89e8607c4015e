#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "options/compute_options.h"

namespace dsft::apps {

/// `dsft score`: log-probabilities of the tokens of rows.
struct ScoreOptions {
  std::string model;    ///< directory or hub id in the local cache
  std::string adapter;  ///< directory; empty: none
  std::string input;    ///< JSONL, rows in any data format
  std::string output;   ///< JSONL: {token_ids, log_probs, labels} a row
  ComputeOptions compute;
};

/// Adds the options of `dsft score`.
void add_options(CLI::App& command, ScoreOptions& options);

}  // namespace dsft::apps

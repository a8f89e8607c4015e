#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace dsft::apps {

/// `dsft consolidate`: a plain checkpoint from sharded weights.
struct ConsolidateOptions {
  std::string checkpoint;  ///< a checkpoint or output_dir with sharded weights
  std::string output;      ///< directory to make
};

/// Adds the options of `dsft consolidate`.
void add_options(CLI::App& command, ConsolidateOptions& options);

}  // namespace dsft::apps

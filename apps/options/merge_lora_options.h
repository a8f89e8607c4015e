#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "options/compute_options.h"

namespace dsft::apps {

/// `dsft merge-lora`: a plain checkpoint from a base and an adapter.
struct MergeLoraOptions {
  std::string base;                         ///< directory or hub id in the local cache
  std::string adapter;                      ///< directory
  std::string output;                       ///< directory to make
  std::optional<spec::ComputeDtype> dtype;  ///< none: as each tensor of the base
  bool is_verified = false;                 ///< compare the logits of both on a fixed prompt
};

/// Adds the options of `dsft merge-lora`.
void add_options(CLI::App& command, MergeLoraOptions& options);

}  // namespace dsft::apps

#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "options/compute_options.h"

namespace dsft::apps {

/// `dsft bench`: how fast this machine trains or decodes a model of random weights.
struct BenchOptions {
  std::string kind;    ///< train or decode
  std::string model;   ///< directory or hub id, of which config.json is read; or
  std::string config;  ///< a config.json alone
  ComputeOptions compute;
  int64_t batch_size = 8;  ///< documents of a step, or sequences decoded together
  int64_t length = 2048;   ///< tokens of a document; decoding: of a prompt
  int64_t new_tokens = 128;
  int64_t steps = 9;
  int64_t warmup = 3;
  int64_t rank = 16;  ///< of LoRA on q, k, v, o
  double lora_dropout = 0;
  bool is_full = false;  ///< all weights instead
  bool recomputes = false;
  bool recomputes_selectively = false;
  bool without_cuda_graphs = false;
  bool is_json = false;
  std::string profile;  ///< a file for a Chrome trace of one more repetition; empty: none
};

/// Adds the options of `dsft bench`.
void add_options(CLI::App& command, BenchOptions& options);

}  // namespace dsft::apps

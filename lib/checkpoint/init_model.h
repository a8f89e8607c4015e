#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "base/logger.h"

namespace dsft::checkpoint {

/// What init_model reads and writes.
struct InitRequest {
  std::filesystem::path config;     ///< a config.json
  std::filesystem::path tokenizer;  ///< folder with tokenizer.json
  std::filesystem::path output;     ///< must not exist, or be an empty folder
  uint64_t seed = 42;
  int64_t num_token_ids = 0;                 ///< of the tokenizer: more than vocab_size is refused
  std::optional<int32_t> bos_token_id = {};  ///< of the tokenizer, for a config whose ids lie outside of it
  std::optional<int32_t> eos_token_id = {};
  std::optional<int32_t> pad_token_id = {};
  int64_t max_shard_bytes = 5'000'000'000;
};

/// Writes a checkpoint with random weights as transformers initialises them (weights normal(0, initializer_range), the
/// padding row zero, norms one, biases zero), in config.json's type. A value depends on (seed, name of the tensor,
/// position) alone; one tensor at a time is in memory. Ids of special tokens that the tokenizer cannot give are
/// replaced by the tokenizer's own. The output folder appears whole or not at all. Throws kCheckpoint or kUsage.
void init_model(const InitRequest& request, const Logger& logger);

}  // namespace dsft::checkpoint

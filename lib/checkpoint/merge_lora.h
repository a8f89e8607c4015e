#pragma once

#include <filesystem>
#include <functional>
#include <optional>

#include "base/logger.h"
#include "checkpoint/tensor_file.h"

namespace dsft::checkpoint {

/// What merge_lora reads and writes.
struct MergeRequest {
  std::filesystem::path base;
  std::filesystem::path adapter;
  std::filesystem::path output;              ///< must not exist, or be an empty folder
  std::optional<at::ScalarType> dtype = {};  ///< empty: each tensor keeps the base's type
  bool verify = false;                       ///< recompute and compare before the folder gets its name
  int64_t max_shard_bytes = 5'000'000'000;
};

/// Compares the logits of the merged folder with those of base and adapter; throws where they differ. The caller brings
/// it (this module runs no model).
using CompareLogits = std::function<void(const std::filesystem::path& merged)>;

/// Writes base + adapter as a plain Hugging Face checkpoint: W + scale * B A in fp32, rounded once to the output's
/// type; modules_to_save and trained biases replace the base's. One tensor at a time is in memory. A tied embedding of
/// which one side was changed is untied: both are written and tie_word_embeddings becomes false. Tokenizer and chat
/// template come from one folder (spec::find_text_folders). Refuses quantised
/// bases, DoRA and values that are not finite. The output folder appears whole or not at all. With `verify` each
/// written tensor is compared with its definition applied to random vectors in fp64, then `compare_logits` is called
/// where it is given.
void merge_lora(const MergeRequest& request, const Logger& logger, const CompareLogits& compare_logits = {});

}  // namespace dsft::checkpoint

#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "spec/model_spec.h"

namespace dsft::spec {

/// Compares the names, shapes and types of a checkpoint's tensors with what its config.json promises, without reading
/// data: one sentence per missing, unexpected or misshapen tensor. With tied embeddings an lm_head.weight of its own is
/// left aside, as transformers does; buffers of old checkpoints (rotary_emb.inv_freq) too. `num_token_ids`: ids that
/// the tokenizer can give; more of them than embedding rows is a fault.
std::vector<std::string> check_weights(const ModelSpec& spec, const io::SafetensorsSet& weights,
                                       std::optional<int64_t> num_token_ids = std::nullopt);

/// Throws kCheckpoint with all faults of check_weights.
void require_weights(const ModelSpec& spec, const io::SafetensorsSet& weights, const std::filesystem::path& directory,
                     std::optional<int64_t> num_token_ids = std::nullopt);

/// Is this a tensor that transformers too leaves aside (a buffer that old checkpoints carry)?
bool is_ignored_tensor(const ModelSpec& spec, const std::string& name);

}  // namespace dsft::spec

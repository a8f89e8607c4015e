#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "spec/model_spec.h"

namespace dsft::spec {

/// What generation_config.json says; absent keys stay empty and mean transformers' defaults (greedy, no filter).
struct GenerationDefaults {
  bool do_sample = false;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int64_t> top_k;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
  std::optional<int64_t> max_new_tokens;
  std::vector<int32_t> eos_token_ids;
  std::optional<int32_t> bos_token_id;
  std::optional<int32_t> pad_token_id;
  std::vector<std::string>
      ignored_keys;  ///< keys that change what transformers generates and that dsft does not follow
};

/// Reads DIR/generation_config.json; where there is none, the ids of config.json (`spec`) stand. Throws kCheckpoint.
GenerationDefaults read_generation_config(const std::filesystem::path& directory, const ModelSpec& spec);

}  // namespace dsft::spec

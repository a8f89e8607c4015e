#pragma once

#include "spec/json_fields.h"
#include "spec/model_spec.h"

namespace dsft::spec {

/// Values that a family's config class of transformers takes for keys that config.json does not write.
struct DecoderDefaults {
  int64_t vocab_size;
  int64_t intermediate_size;
  int64_t num_key_value_heads;  ///< 0: as many as attention heads
  int64_t head_dim;             ///< 0: hidden_size / num_attention_heads
  int64_t max_position_embeddings;
  std::optional<int32_t> bos_token_id;
  std::vector<int32_t> eos_token_ids;
};

/// Fills what all decoder families share: sizes, norm, rotary, ids, type; refuses what dsft does not compute.
void read_decoder_fields(const JsonFields& fields, const DecoderDefaults& defaults, ModelSpec& spec);

/// Fills sliding_window and uses_sliding_window from use_sliding_window, sliding_window, max_window_layers and
/// layer_types (qwen2, qwen3).
void read_sliding_window(const JsonFields& fields, ModelSpec& spec);

/// Reads rope_theta and rope_scaling (transformers 4) or rope_parameters (transformers 5).
RopeSpec read_rope(const JsonFields& fields, const nlohmann::json& config, std::vector<std::string>& faults,
                   int64_t max_position_embeddings);

}  // namespace dsft::spec

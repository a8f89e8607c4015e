#include "spec/decoder_fields.h"
#include "spec/families/families.h"

namespace dsft::spec {

/// Defaults: transformers' Qwen3Config. Each head of q and k is normalised; attention_bias covers o too.
ModelSpec read_qwen3(const nlohmann::json& config, std::vector<std::string>& faults) {
  const DecoderDefaults defaults{.vocab_size = 151936,
                                 .intermediate_size = 22016,
                                 .num_key_value_heads = 32,
                                 .head_dim = 128,
                                 .max_position_embeddings = 32768,
                                 .bos_token_id = std::nullopt,
                                 .eos_token_ids = {}};
  const JsonFields fields(config, faults);
  ModelSpec spec;
  spec.model_type = "qwen3";
  read_decoder_fields(fields, defaults, spec);
  spec.rope = read_rope(fields, config, faults, spec.max_position_embeddings);
  read_sliding_window(fields, spec);
  spec.attention_bias = fields.boolean("attention_bias", false);
  spec.attention_output_bias = spec.attention_bias;
  spec.has_qk_norm = true;
  return spec;
}

}  // namespace dsft::spec

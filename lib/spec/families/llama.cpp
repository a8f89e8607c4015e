#include "spec/decoder_fields.h"
#include "spec/families/families.h"

namespace dsft::spec {

/// Defaults: transformers' LlamaConfig.
ModelSpec read_llama(const nlohmann::json& config, std::vector<std::string>& faults) {
  const DecoderDefaults defaults{.vocab_size = 32000,
                                 .intermediate_size = 11008,
                                 .num_key_value_heads = 0,
                                 .head_dim = 0,
                                 .max_position_embeddings = 2048,
                                 .bos_token_id = 1,
                                 .eos_token_ids = {2}};
  const JsonFields fields(config, faults);
  ModelSpec spec;
  spec.model_type = "llama";
  read_decoder_fields(fields, defaults, spec);
  spec.rope = read_rope(fields, config, faults, spec.max_position_embeddings);
  spec.attention_bias = fields.boolean("attention_bias", false);
  spec.attention_output_bias = spec.attention_bias;
  spec.mlp_bias = fields.boolean("mlp_bias", false);
  return spec;
}

}  // namespace dsft::spec

#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace dsft::spec {

/// Scaling of rotary frequencies, names and formulas of transformers' modeling_rope_utils.
struct RopeSpec {
  enum class Type { kDefault, kLinear, kDynamic, kYarn, kLlama3 };
  Type type = Type::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  int64_t original_max_position_embeddings = 0;  ///< 0: max_position_embeddings
  // llama3
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  // yarn
  std::optional<double> attention_factor;
  std::optional<double> mscale;
  std::optional<double> mscale_all_dim;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;
};

/// What a decoder checkpoint is; made from config.json of either dialect (transformers 4 or 5) by one function per
/// family.
struct ModelSpec {
  std::string model_type;    ///< "llama", "qwen2", "qwen3"
  std::string architecture;  ///< "LlamaForCausalLM"
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  bool attention_bias = false;         ///< bias of q, k, v (qwen2: always)
  bool attention_output_bias = false;  ///< bias of o (llama: with attention_bias)
  bool mlp_bias = false;
  bool has_qk_norm = false;  ///< RMSNorm on each head of q and k (qwen3)
  double initializer_range = 0.02;
  RopeSpec rope;
  std::optional<io::DType> dtype;         ///< the type written in config.json
  std::optional<int64_t> sliding_window;  ///< where use_sliding_window is on (per layer: layer_types)
  std::vector<bool> uses_sliding_window;  ///< per layer; empty: none
  std::vector<int32_t> eos_token_ids;     ///< of config.json
  std::optional<int32_t> bos_token_id;
  std::optional<int32_t> pad_token_id;
  std::vector<std::string> warnings;  ///< what config.json asks for and dsft does not do, one sentence each
};

/// A tensor that a checkpoint of this spec must hold.
struct TensorSpec {
  std::string name;  ///< Hugging Face's name: "model.layers.0.self_attn.q_proj.weight"
  std::vector<int64_t> shape;
  bool is_linear_weight = false;  ///< weight of a Linear module: LoRA may target its module
};

/// Reads DIR/config.json. Throws kCheckpoint: unknown model_type (lists those known), missing or contradicting fields,
/// all at once.
ModelSpec read_model_spec(const std::filesystem::path& directory);
/// The same from a config.json file alone.
ModelSpec read_model_spec_file(const std::filesystem::path& config_file);

/// All tensors of a checkpoint of this spec, in model order; lm_head.weight only where it is not tied.
std::vector<TensorSpec> tensor_inventory(const ModelSpec& spec);

/// Names of the known model types.
std::vector<std::string> known_model_types();

/// The directory of a model: an existing directory, or a hub id in the local Hugging Face cache (contract §5). Throws
/// kCheckpoint with the command that downloads it.
std::filesystem::path find_model(const std::string& path_or_id, const std::string& revision);

}  // namespace dsft::spec

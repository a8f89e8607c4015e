#include "spec/decoder_fields.h"

#include <array>

namespace dsft::spec {

namespace {

constexpr int64_t kLargestSize = int64_t{1} << 31;

std::optional<io::DType> read_dtype(const JsonFields& fields) {
  const std::string key = fields.has("dtype") ? "dtype" : "torch_dtype";
  std::string name = fields.text(key, "");
  if (name.starts_with("torch.")) name = name.substr(6);
  if (name.empty() || name == "auto") return std::nullopt;
  if (name == "float32") return io::DType::kF32;
  if (name == "bfloat16") return io::DType::kBF16;
  if (name == "float16") return io::DType::kF16;
  fields.fault(key, "is \"", name, "\"; dsft reads float32, bfloat16 and float16");
  return std::nullopt;
}

void refuse_unsupported(const JsonFields& fields, ModelSpec& spec) {
  const std::string activation = fields.text("hidden_act", "silu");
  if (activation != "silu" && activation != "swish")
    fields.fault("hidden_act", "is \"", activation, "\"; dsft computes silu only");
  if (fields.has("quantization_config")) {
    fields.fault("quantization_config", "is set: the weights are quantised; use the 16-bit checkpoint of this model");
  }
  if (fields.integer("pretraining_tp", 1, 0, kLargestSize) > 1) {
    fields.fault("pretraining_tp",
                 "is above 1; dsft computes whole matrices: set it to 1 (the results differ only by rounding)");
  }
  if (fields.number("attention_dropout", 0.0, 0.0, 1.0) > 0.0) {
    spec.warnings.push_back("config.json sets attention_dropout; dsft trains without dropout in attention.");
  }
}

void check_sizes(const JsonFields& fields, const ModelSpec& spec) {
  if (spec.num_attention_heads % spec.num_key_value_heads != 0) {
    fields.fault("num_key_value_heads", "is ", spec.num_key_value_heads, ", which does not divide num_attention_heads ",
                 spec.num_attention_heads);
  }
  if (spec.head_dim % 2 != 0 || spec.head_dim < 2) {
    fields.fault("head_dim", "is ", spec.head_dim, "; rotary embeddings need a positive even number");
  }
  const bool needs_division = spec.model_type == "llama" || !fields.has("head_dim");
  if (needs_division && spec.hidden_size % spec.num_attention_heads != 0 && spec.model_type != "qwen3") {
    fields.fault("hidden_size", "is ", spec.hidden_size, ", which is not a multiple of num_attention_heads ",
                 spec.num_attention_heads);
  }
}

std::string read_architecture(const JsonFields& fields, const ModelSpec& spec) {
  std::string expected = spec.model_type + "ForCausalLM";
  expected[0] = static_cast<char>(expected[0] - 'a' + 'A');
  if (!fields.has("architectures")) return expected;
  const nlohmann::json& list = fields.at("architectures");
  if (!list.is_array() || list.empty() || !list[0].is_string()) {
    fields.fault("architectures", "must be a list of names");
  } else if (list[0] != expected) {
    fields.fault("architectures", "names ", list[0].dump(), "; dsft trains ", expected, " for model_type ",
                 spec.model_type);
  }
  return expected;
}

}  // namespace

void read_decoder_fields(const JsonFields& fields, const DecoderDefaults& defaults, ModelSpec& spec) {
  const auto size = [&](const char* key, int64_t fallback) { return fields.integer(key, fallback, 1, kLargestSize); };
  spec.architecture = read_architecture(fields, spec);
  spec.vocab_size = size("vocab_size", defaults.vocab_size);
  spec.hidden_size = size("hidden_size", 4096);
  spec.intermediate_size = size("intermediate_size", defaults.intermediate_size);
  spec.num_hidden_layers = fields.integer("num_hidden_layers", 32, 1, 10000);
  spec.num_attention_heads = size("num_attention_heads", 32);
  // A null stands for one key head per query head; an absent key for the family's default.
  const int64_t kv_default = fields.is_written("num_key_value_heads") || defaults.num_key_value_heads == 0
                                 ? spec.num_attention_heads
                                 : defaults.num_key_value_heads;
  spec.num_key_value_heads = size("num_key_value_heads", kv_default);
  spec.head_dim =
      size("head_dim", defaults.head_dim > 0 ? defaults.head_dim : spec.hidden_size / spec.num_attention_heads);
  spec.max_position_embeddings = size("max_position_embeddings", defaults.max_position_embeddings);
  spec.rms_norm_eps = fields.number("rms_norm_eps", 1e-6, 0.0, 1.0);
  spec.initializer_range = fields.number("initializer_range", 0.02, 0.0, 1.0);
  spec.tie_word_embeddings = fields.boolean("tie_word_embeddings", false);
  spec.dtype = read_dtype(fields);
  spec.bos_token_id = fields.token_id("bos_token_id", defaults.bos_token_id);
  spec.eos_token_ids = fields.token_ids("eos_token_id", defaults.eos_token_ids);
  spec.pad_token_id = fields.token_id("pad_token_id", std::nullopt);
  check_sizes(fields, spec);
  refuse_unsupported(fields, spec);
}

void read_sliding_window(const JsonFields& fields, ModelSpec& spec) {
  const bool is_used = fields.boolean("use_sliding_window", false);
  const bool has_window = fields.has("sliding_window") || !fields.is_written("sliding_window");
  if (is_used && has_window) spec.sliding_window = fields.integer("sliding_window", 4096, 1, kLargestSize);
  const int64_t first_layer = fields.integer("max_window_layers", 28, 0, kLargestSize);
  std::vector<bool> uses(static_cast<size_t>(spec.num_hidden_layers), false);
  if (fields.has("layer_types")) {
    const nlohmann::json& types = fields.at("layer_types");
    if (!types.is_array() || types.size() != uses.size()) {
      fields.fault("layer_types", "must be a list of num_hidden_layers = ", spec.num_hidden_layers, " names");
      return;
    }
    for (size_t i = 0; i < uses.size(); ++i) {
      uses[i] = types[i] == "sliding_attention";
      if (!uses[i] && types[i] != "full_attention") {
        fields.fault("layer_types", "names ", types[i].dump().substr(0, 80), " for layer ", i,
                     "; dsft knows full_attention and sliding_attention");
        return;
      }
      if (uses[i] && !spec.sliding_window) {
        fields.fault("layer_types", "asks for sliding_attention in layer ", i,
                     ", but use_sliding_window is false or sliding_window is null");
        return;
      }
    }
  } else {
    for (size_t i = 0; i < uses.size(); ++i) uses[i] = spec.sliding_window && static_cast<int64_t>(i) >= first_layer;
  }
  for (const bool used : uses) {
    if (used) {
      spec.uses_sliding_window = uses;
      return;
    }
  }
  spec.sliding_window.reset();
}

}  // namespace dsft::spec

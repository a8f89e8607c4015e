#include "spec/model_spec.h"

#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "io/json.h"
#include "spec/generation_defaults.h"
#include "spec/lora_targets.h"
#include "spec/weight_check.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using dsft::ErrorKind;
using dsft::test::require_error;
using dsft::test::TempDir;
using namespace dsft::spec;
namespace io = dsft::io;
using nlohmann::json;

namespace {

json fixture() {
  return io::read_json_file(std::string(DSFT_SOURCE_DIR) + "/test/fixtures/spec/configs.json");
}

ModelSpec read_spec(const json& config) {
  TempDir dir;
  return read_model_spec_file(dir.write("config.json", config.dump()));
}

json tiny_config() {
  return {{"model_type", "llama"},  {"vocab_size", 8},        {"hidden_size", 4},
          {"intermediate_size", 6}, {"num_hidden_layers", 1}, {"num_attention_heads", 2}};
}

template <typename T>
json or_null(const std::optional<T>& value) {
  return value ? json(*value) : json(nullptr);
}

const char* rope_name(RopeSpec::Type type) {
  const char* names[] = {"default", "linear", "dynamic", "yarn", "llama3"};
  return names[static_cast<int>(type)];
}

void require_rope(const RopeSpec& rope, const json& expected) {
  REQUIRE(rope_name(rope.type) == expected["rope_type"]);
  REQUIRE(rope.theta == expected["rope_theta"].get<double>());
  if (expected.contains("factor")) REQUIRE(rope.factor == expected["factor"].get<double>());
  if (expected.contains("original_max_position_embeddings"))
    REQUIRE(rope.original_max_position_embeddings == expected["original_max_position_embeddings"]);
  if (expected.contains("low_freq_factor")) REQUIRE(rope.low_freq_factor == expected["low_freq_factor"].get<double>());
  if (expected.contains("high_freq_factor"))
    REQUIRE(rope.high_freq_factor == expected["high_freq_factor"].get<double>());
  REQUIRE(rope.beta_fast == expected.value("beta_fast", 32.0));
  REQUIRE(rope.beta_slow == expected.value("beta_slow", 1.0));
  REQUIRE(rope.truncate == expected.value("truncate", true));
  REQUIRE(or_null(rope.mscale) == expected.value("mscale", json(nullptr)));
  REQUIRE(or_null(rope.mscale_all_dim) == expected.value("mscale_all_dim", json(nullptr)));
}

void require_spec(const ModelSpec& spec, const json& expected) {
  const std::map<std::string, json> integers = {{"vocab_size", spec.vocab_size},
                                                {"hidden_size", spec.hidden_size},
                                                {"intermediate_size", spec.intermediate_size},
                                                {"num_hidden_layers", spec.num_hidden_layers},
                                                {"num_attention_heads", spec.num_attention_heads},
                                                {"num_key_value_heads", spec.num_key_value_heads},
                                                {"head_dim", spec.head_dim},
                                                {"max_position_embeddings", spec.max_position_embeddings},
                                                {"rms_norm_eps", spec.rms_norm_eps},
                                                {"initializer_range", spec.initializer_range},
                                                {"tie_word_embeddings", spec.tie_word_embeddings},
                                                {"bos_token_id", or_null(spec.bos_token_id)},
                                                {"pad_token_id", or_null(spec.pad_token_id)},
                                                {"eos_token_ids", spec.eos_token_ids}};
  for (const auto& [key, value] : integers) {
    INFO(key);
    REQUIRE(value == expected[key]);
  }
  require_rope(spec.rope, expected["rope"]);
  const std::map<std::string, io::DType> types = {
      {"float32", io::DType::kF32}, {"bfloat16", io::DType::kBF16}, {"float16", io::DType::kF16}};
  REQUIRE(spec.dtype.has_value() == expected["dtype"].is_string());
  if (spec.dtype) REQUIRE(*spec.dtype == types.at(expected["dtype"]));
  const json window = expected["sliding_window"];
  bool any = false;
  for (size_t i = 0; window.is_number() && i < expected["layer_types"].size(); ++i) {
    const bool slides = expected["layer_types"][i] == "sliding_attention";
    REQUIRE(spec.uses_sliding_window[i] == slides);
    any = any || slides;
  }
  REQUIRE(or_null(spec.sliding_window) == (any ? window : json(nullptr)));
}

}  // namespace

TEST_CASE("config.json of both dialects is read as transformers reads it", "[spec]") {
  const json document = fixture();
  for (const auto& [name, item] : document["cases"].items()) {
    INFO(name);
    require_spec(read_spec(item["config"]), item["expected"]);
  }
}

TEST_CASE("the tensor inventory equals transformers' parameters", "[spec]") {
  const json document = fixture();
  for (const auto& [name, item] : document["cases"].items()) {
    if (!item.contains("tensors")) continue;
    INFO(name);
    json tensors = json::object();
    for (const TensorSpec& tensor : tensor_inventory(read_spec(item["config"]))) tensors[tensor.name] = tensor.shape;
    REQUIRE(tensors == item["tensors"]);
  }
}

TEST_CASE("module names equal transformers' modules", "[spec]") {
  const json document = fixture();
  int compared = 0;
  for (const auto& [name, item] : document["cases"].items()) {
    if (!item["expected"].contains("modules")) continue;
    auto expected = item["expected"]["modules"].get<std::vector<std::string>>();
    auto names = module_names(read_spec(item["config"]));
    std::sort(expected.begin(), expected.end());
    std::sort(names.begin(), names.end());
    REQUIRE(names == expected);
    ++compared;
  }
  REQUIRE(compared == 2);
}

TEST_CASE("all faults of a config.json come together", "[spec]") {
  json config = tiny_config();
  config.update({{"hidden_size", -4},
                 {"rms_norm_eps", "x"},
                 {"hidden_act", "gelu"},
                 {"quantization_config", {{"quant_method", "gptq"}}},
                 {"pretraining_tp", 2},
                 {"rope_scaling", {{"type", "longrope"}}},
                 {"torch_dtype", "float8"},
                 {"architectures", {"LlamaForSequenceClassification"}},
                 {"tie_word_embeddings", 1}});
  require_error(
      ErrorKind::kCheckpoint,
      {"config.json has 9 faults", "hidden_size is -4", "rms_norm_eps", "hidden_act is \"gelu\"", "quantization_config",
       "pretraining_tp", "longrope", "llama3", "float8", "LlamaForSequenceClassification", "tie_word_embeddings is 1"},
      [&] { read_spec(config); });
}

TEST_CASE("single faults of a config.json are said in one sentence", "[spec]") {
  const auto with = [](const std::string& key, const json& value) {
    json config = tiny_config();
    config[key] = value;
    return config;
  };
  const auto fails = [](const json& config, std::initializer_list<std::string> parts) {
    require_error(ErrorKind::kCheckpoint, parts, [&] { read_spec(config); });
  };
  fails(with("model_type", "gpt_oss"), {"gpt_oss", "llama, qwen2 and qwen3"});
  fails(with("num_key_value_heads", 3), {"does not divide"});
  fails(with("head_dim", 3), {"head_dim is 3"});
  fails(with("num_attention_heads", 3), {"not a multiple"});
  fails(with("num_hidden_layers", 1e30), {"num_hidden_layers"});
  fails(with("num_hidden_layers", 18446744073709551615ULL), {"num_hidden_layers"});
  fails(with("rope_scaling", {{"rope_type", "llama3"}, {"factor", 8}}),
        {"low_freq_factor is missing", "high_freq_factor is missing"});
  fails(with("rope_scaling", {{"rope_type", "linear"}}), {"rope_scaling.factor is missing"});
  fails(with("rope_parameters", 3), {"rope_parameters must be an object"});
  fails(with("rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}), {"per layer type"});
  fails(with("partial_rotary_factor", 0.5), {"whole heads"});
  fails(with("eos_token_id", {1, "x"}), {"eos_token_id"});
  fails(json::array(), {"model_type is missing"});
  TempDir dir;
  require_error(ErrorKind::kCheckpoint, {"no config.json"}, [&] { read_model_spec(dir.path()); });
  REQUIRE(read_spec(with("attention_dropout", 0.1)).warnings.size() == 1);
}

TEST_CASE("weights are compared with config.json without reading data", "[spec]") {
  TempDir dir;
  json config = tiny_config();
  const auto write_weights = [&](std::vector<io::TensorInfo> tensors) {
    io::SafetensorsWriter writer(dir / "model.safetensors", tensors, {{"format", "pt"}});
    for (const auto& tensor : tensors) {
      const std::string zeros(static_cast<size_t>(tensor.num_elements() * io::dtype_size(tensor.dtype)), '\0');
      writer.write(zeros.data(), zeros.size());
    }
    writer.finish();
  };
  const auto info = [](const std::string& name, std::vector<int64_t> shape, io::DType dtype = io::DType::kBF16) {
    io::TensorInfo tensor;
    tensor.name = name;
    tensor.shape = std::move(shape);
    tensor.dtype = dtype;
    return tensor;
  };
  const auto check = [&] { return check_weights(read_spec(config), io::SafetensorsSet::open(dir.path()), 9); };
  std::vector<io::TensorInfo> tensors;
  for (const TensorSpec& tensor : tensor_inventory(read_spec(config)))
    tensors.push_back(info(tensor.name, tensor.shape));
  write_weights(tensors);
  REQUIRE(check() == std::vector<std::string>{"the tokenizer has 9 ids, but the embedding has 8 rows (vocab_size): the "
                                              "tokenizer is of another model, or tokens "
                                              "were added without resizing the embedding"});

  auto changed = tensors;
  changed[0].shape = {8, 5};
  changed[1] = info("model.layers.0.extra.weight", {2});
  changed[2].dtype = io::DType::kI8;
  changed.push_back(info("model.layers.0.self_attn.rotary_emb.inv_freq", {1}, io::DType::kF32));
  write_weights(changed);
  require_error(ErrorKind::kCheckpoint,
                {"4 faults", "wrong shape: model.embed_tokens.weight is [8, 5], but config.json asks for [8, 4]",
                 "missing: model.layers.0.self_attn.q_proj.weight", "unexpected: model.layers.0.extra.weight [2]",
                 "unreadable type: model.layers.0.self_attn.k_proj.weight is I8"},
                [&] { require_weights(read_spec(config), io::SafetensorsSet::open(dir.path()), dir.path()); });

  config["tie_word_embeddings"] = true;
  write_weights(tensors);
  REQUIRE(check().size() == 1);
  tensors.pop_back();
  write_weights(tensors);
  REQUIRE(check().size() == 1);
  config["tie_word_embeddings"] = false;
  REQUIRE(check()[0] == "missing: lm_head.weight [8, 4] (config.json says tie_word_embeddings: false)");
}

TEST_CASE("generation_config.json is read, and keys that dsft does not follow are named", "[spec]") {
  TempDir dir;
  const ModelSpec spec = read_spec(tiny_config());
  REQUIRE(read_generation_config(dir.path(), spec).eos_token_ids == std::vector<int32_t>{2});
  dir.write(
      "generation_config.json",
      R"({"do_sample": true, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "eos_token_id": [5, 7], "num_beams": 4, "no_repeat_ngram_size": 0, "pad_token_id": 5})");
  const auto defaults = read_generation_config(dir.path(), spec);
  REQUIRE((defaults.do_sample && defaults.temperature == 0.6 && defaults.top_p == 0.95 && defaults.top_k == 20 &&
           defaults.pad_token_id == 5));
  REQUIRE(defaults.eos_token_ids == std::vector<int32_t>{5, 7});
  REQUIRE(defaults.ignored_keys == std::vector<std::string>{"num_beams"});
  dir.write("generation_config.json", R"({"temperature": "hot", "top_p": 2})");
  require_error(ErrorKind::kCheckpoint, {"2 faults", "temperature", "top_p"},
                [&] { read_generation_config(dir.path(), spec); });
}

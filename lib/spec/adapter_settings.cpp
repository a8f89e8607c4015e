#include "spec/adapter_settings.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "io/json.h"
#include "spec/json_fields.h"
#include "spec/lora_targets.h"

namespace dsft::spec {

namespace {

using lora::LoraConfig;
using lora::TargetModules;
using nlohmann::ordered_json;

/// Keys whose presence (other than null, false and empty) changes what the adapter computes.
constexpr auto kRefused = std::to_array<const char*>(
    {"use_dora", "target_parameters", "lora_bias", "fan_in_fan_out", "layer_replication", "trainable_token_indices",
     "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "velora_config", "monteclora_config", "megatron_config",
     "alora_invocation_tokens", "ensure_weight_tying"});
/// Keys that are read, or that do not matter once an adapter is trained.
constexpr auto kKnown = std::to_array<const char*>({"peft_type",
                                                    "task_type",
                                                    "base_model_name_or_path",
                                                    "peft_version",
                                                    "revision",
                                                    "auto_mapping",
                                                    "inference_mode",
                                                    "r",
                                                    "lora_alpha",
                                                    "lora_dropout",
                                                    "bias",
                                                    "init_lora_weights",
                                                    "use_rslora",
                                                    "target_modules",
                                                    "exclude_modules",
                                                    "modules_to_save",
                                                    "layers_to_transform",
                                                    "layers_pattern",
                                                    "rank_pattern",
                                                    "alpha_pattern",
                                                    "loftq_config",
                                                    "corda_config",
                                                    "eva_config",
                                                    "lora_ga_config",
                                                    "qalora_group_size",
                                                    "megatron_core",
                                                    "runtime_config",
                                                    "enable_lora",
                                                    "merge_weights"});
constexpr auto kBaseAltering = std::to_array<const char*>({"pissa", "olora", "corda", "lora_ga", "loftq"});

constexpr int64_t kLargestRank = 1 << 20;
constexpr double kLargestAlpha = 1e12;

bool is_off(const nlohmann::json& value) {
  return value.is_null() || value == false || ((value.is_object() || value.is_array()) && value.empty());
}

template <typename Range>
bool contains(const Range& range, const std::string& key) {
  return std::find(range.begin(), range.end(), key) != range.end();
}

std::vector<std::string> read_names(const JsonFields& fields, const std::string& key) {
  if (!fields.has(key)) return {};
  const nlohmann::json& value = fields.at(key);
  if (value.is_string()) return {value.get<std::string>()};
  std::vector<std::string> names;
  const bool is_list =
      value.is_array() && std::all_of(value.begin(), value.end(), [](const auto& name) { return name.is_string(); });
  if (is_list) return value.get<std::vector<std::string>>();
  fields.fault(key, "must be a list of strings");
  return {};
}

TargetModules read_targets(const JsonFields& fields, const std::string& key) {
  TargetModules targets;
  if (!fields.at(key).is_string()) {
    targets.kind = TargetModules::Kind::kNames;
    targets.names = read_names(fields, key);
    return targets;
  }
  std::string text = fields.text(key, "");
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower != "all-linear") {
    targets.kind = TargetModules::Kind::kRegex;
    targets.regex = std::move(text);
  }
  return targets;
}

template <typename Value>
std::vector<std::pair<std::string, Value>> read_pattern_map(const ordered_json& document, const JsonFields& fields,
                                                            const std::string& key) {
  std::vector<std::pair<std::string, Value>> entries;
  if (!fields.has(key)) return entries;
  const ordered_json& map = document[key];
  const auto is_value = [](const ordered_json& value) {
    if constexpr (std::is_integral_v<Value>)  // a rank
      return value.is_number_integer() && value.get<double>() >= 1 && value.get<double>() <= kLargestRank;
    return value.is_number() && std::abs(value.get<double>()) <= kLargestAlpha;
  };
  if (!map.is_object() || !std::all_of(map.begin(), map.end(), is_value)) {
    fields.fault(key, "must map patterns to ",
                 std::is_integral_v<Value> ? concat("whole numbers from 1 to ", kLargestRank) : "numbers");
    return entries;
  }
  for (const auto& [pattern, value] : map.items()) entries.emplace_back(pattern, value.template get<Value>());
  return entries;
}

void read_layers(const JsonFields& fields, LoraConfig& config) {
  if (fields.has("layers_to_transform") && fields.at("layers_to_transform").is_array()) {
    for (const auto& layer : fields.at("layers_to_transform")) {
      if (!layer.is_number_integer()) return fields.fault("layers_to_transform", "must be a list of integers");
      config.layers_to_transform.push_back(layer.get<int64_t>());
    }
  } else if (fields.has("layers_to_transform")) {
    config.layers_to_transform = {fields.integer("layers_to_transform", 0, 0, 1 << 20)};
  }
  config.layers_pattern = read_names(fields, "layers_pattern");
}

void read_start(const JsonFields& fields, LoraConfig& config) {
  if (!fields.has("init_lora_weights") || !fields.at("init_lora_weights").is_string()) return;
  const std::string name = fields.text("init_lora_weights", "");
  for (const char* altering : kBaseAltering) {
    if (name.starts_with(altering)) {
      fields.fault("init_lora_weights", "is \"", name,
                   "\": such an adapter belongs to a base model that was altered when training began. Convert it with "
                   "PEFT (path_initial_model_for_weight_conversion)");
    }
  }
  if (name == "gaussian") config.init_lora_weights = lora::InitLoraWeights::kGaussian;
}

lora::Bias read_bias(const JsonFields& fields) {
  const std::string name = fields.text("bias", "none");
  if (name == "all") return lora::Bias::kAll;
  if (name == "lora_only") return lora::Bias::kLoraOnly;
  if (name != "none") fields.fault("bias", "is \"", name, "\"; PEFT knows none, all and lora_only");
  return lora::Bias::kNone;
}

void check_variants(const JsonFields& fields, const nlohmann::json& document, AdapterSettings& settings) {
  for (const auto& [key, value] : document.items()) {
    if (is_off(value) || contains(kKnown, key)) continue;
    if (contains(kRefused, key)) {
      fields.fault(key, "is set, which dsft does not compute");
    } else {
      settings.warnings.push_back("adapter_config.json sets " + key + ", which dsft does not know and leaves aside.");
    }
  }
}

ordered_json targets_as_json(const TargetModules& targets, const ModelSpec& spec) {
  if (targets.kind == TargetModules::Kind::kRegex) return targets.regex;
  if (targets.kind == TargetModules::Kind::kNames) return targets.names;
  std::set<std::string> names;
  for (const LoraTarget& target : match_lora_targets(spec, LoraConfig{}))
    names.insert(target.module.substr(target.module.rfind('.') + 1));
  return names;
}

template <typename List>
ordered_json list_or_null(const List& list) {
  return list.empty() ? ordered_json(nullptr) : ordered_json(list);
}

/// 32 rather than 32.0, as PEFT writes an integer.
ordered_json as_number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

}  // namespace

AdapterSettings read_adapter_settings(const std::filesystem::path& directory) {
  const std::filesystem::path file = directory / "adapter_config.json";
  std::error_code unreachable;
  if (!std::filesystem::exists(file, unreachable))
    fail(ErrorKind::kCheckpoint, directory.string(),
         " holds no adapter_config.json: it is no folder of a PEFT adapter.");
  const ordered_json ordered = io::read_ordered_json_file(file);
  const nlohmann::json document = ordered;
  if (!document.is_object()) fail(ErrorKind::kCheckpoint, file.string(), " must hold a JSON object.");
  std::vector<std::string> faults;
  const JsonFields fields(document, faults);
  AdapterSettings settings;
  LoraConfig& config = settings.lora;
  const std::string type = fields.text("peft_type", "");
  if (type != "LORA")
    fields.fault("peft_type", type.empty() ? "is missing" : "is \"" + type + "\"", "; dsft reads LORA");
  config.r = fields.integer("r", 8, 1, kLargestRank);
  config.lora_alpha = fields.number("lora_alpha", 8, -kLargestAlpha, kLargestAlpha);
  config.lora_dropout = fields.number("lora_dropout", 0.0, 0.0, 1.0);
  if (config.lora_dropout >= lora::kDropoutLimit)
    fields.fault("lora_dropout", "is ", config.lora_dropout, ", which drops every value; it must be below 1");
  config.use_rslora = fields.boolean("use_rslora", false);
  config.bias = read_bias(fields);
  config.task_type = fields.text("task_type", "CAUSAL_LM");
  // PEFT's own choice for the families that dsft knows, where nothing was named.
  config.target_modules = {.kind = TargetModules::Kind::kNames, .names = {"q_proj", "v_proj"}, .regex = ""};
  if (fields.has("target_modules")) config.target_modules = read_targets(fields, "target_modules");
  if (fields.has("exclude_modules")) config.exclude_modules = read_targets(fields, "exclude_modules");
  config.modules_to_save = read_names(fields, "modules_to_save");
  config.rank_pattern = read_pattern_map<int64_t>(ordered, fields, "rank_pattern");
  config.alpha_pattern = read_pattern_map<double>(ordered, fields, "alpha_pattern");
  read_layers(fields, config);
  read_start(fields, config);
  check_variants(fields, document, settings);
  settings.base_model_name_or_path = fields.text("base_model_name_or_path", "");
  if (fields.has("revision")) settings.revision = fields.text("revision", "");
  fail_on_faults(faults, file);
  return settings;
}

std::string format_adapter_settings(const AdapterSettings& settings, const ModelSpec& spec) {
  const LoraConfig& config = settings.lora;
  const auto as_map = [](const auto& entries) {
    ordered_json map = ordered_json::object();
    for (const auto& [pattern, value] : entries) map[pattern] = as_number(static_cast<double>(value));
    return map;
  };
  const char* biases[] = {"none", "all", "lora_only"};
  ordered_json document = {
      {"alpha_pattern", as_map(config.alpha_pattern)},
      {"auto_mapping", nullptr},
      {"base_model_name_or_path", settings.base_model_name_or_path},
      {"bias", biases[static_cast<int>(config.bias)]},
      {"fan_in_fan_out", false},
      {"inference_mode", true},
      {"init_lora_weights",
       config.init_lora_weights == lora::InitLoraWeights::kGaussian ? ordered_json("gaussian") : ordered_json(true)},
      {"layers_pattern", list_or_null(config.layers_pattern)},
      {"layers_to_transform", list_or_null(config.layers_to_transform)},
      {"lora_alpha", as_number(config.lora_alpha)},
      {"lora_dropout", config.lora_dropout},
      {"modules_to_save", list_or_null(config.modules_to_save)},
      {"peft_type", "LORA"},
      {"r", config.r},
      {"rank_pattern", as_map(config.rank_pattern)},
      {"revision", settings.revision ? ordered_json(*settings.revision) : ordered_json(nullptr)},
      {"target_modules", targets_as_json(config.target_modules, spec)},
      {"task_type", config.task_type},
      {"use_dora", false},
      {"use_rslora", config.use_rslora},
  };
  if (config.exclude_modules) document["exclude_modules"] = targets_as_json(*config.exclude_modules, spec);
  // sorted keys at the top; the order inside the pattern maps says which pattern wins and stays
  std::vector<std::string> keys;
  for (const auto& [key, value] : document.items()) keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  ordered_json sorted;
  for (const std::string& key : keys) sorted[key] = document[key];
  return sorted.dump(2);
}

}  // namespace dsft::spec

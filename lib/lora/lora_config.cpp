#include "lora/lora_config.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/error.h"
#include "config/fields.h"
#include "config/section.h"

namespace dsft::config {

template <>
struct Value<lora::TargetModules> {
  using Kind = lora::TargetModules::Kind;

  static std::string kind() { return "list of module names, regular expression, or all-linear"; }

  static void read(const Node& node, lora::TargetModules& value, Problems& problems) {
    if (node.is_sequence()) {
      std::vector<std::string> names;
      Value<std::vector<std::string>>::read(node, names, problems);
      if (names.empty())
        problems.push_back({node.position, "names no module: write a list such as [q_proj, v_proj], or all-linear"});
      value = {Kind::kNames, std::move(names), ""};
      return;
    }
    if (!node.is_scalar() || node.text.empty()) {
      add_mismatch(node, kind(), problems);
      return;
    }
    std::string lower = node.text;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
    if (lower == "all-linear") {
      value = {};
    } else {
      value = {Kind::kRegex, {}, node.text};
    }
  }

  static Node write(const lora::TargetModules& value) {
    if (value.kind == Kind::kNames) return Value<std::vector<std::string>>::write(value.names);
    return make_string(value.kind == Kind::kRegex ? value.regex : "all-linear");
  }
};

/// PEFT's other starts change the base weights or need data; they are refused by name.
template <>
struct Value<lora::InitLoraWeights> {
  static std::string kind() { return "true or gaussian"; }

  static void read(const Node& node, lora::InitLoraWeights& value, Problems& problems) {
    constexpr std::array kAlteringBase = {"pissa", "olora", "eva", "corda", "loftq", "orthogonal", "lora_ga", "mica"};
    const std::string text = word_text(node, {"true", "gaussian"});
    const bool alters_base = std::any_of(kAlteringBase.begin(), kAlteringBase.end(),
                                         [&](const char* name) { return text.starts_with(name); });
    if (const auto read = from_word<lora::InitLoraWeights>(text); read && node.is_scalar()) {
      value = *read;
    } else if (alters_base) {
      problems.push_back(
          {node.position,
           "`" + text +
               "` changes the base weights or starts from data, which is not supported: write true or gaussian"});
    } else if (const auto boolean = to_bool(node); boolean && !*boolean) {
      problems.push_back({node.position,
                          "`false` starts A and B at random, so that the adapter changes the model before training; "
                          "write true or gaussian"});
    } else {
      add_word_mismatch(node, {"true", "gaussian"}, problems);
    }
  }

  static Node write(const lora::InitLoraWeights& value) {
    return value == lora::InitLoraWeights::kDefault ? make_plain("true") : make_string("gaussian");
  }
};

}  // namespace dsft::config

namespace dsft::lora {
namespace {

void describe_others(config::Fields& fields) {
  fields.later("target_parameters", "the gpt-oss family", {"[]"});
  fields.refused("use_dora", "DoRA is not built; LoRA and rsLoRA (use_rslora) are", {"false"});
  fields.refused("lora_bias", "an adapter has no bias of its own; `bias` trains those of the base", {"false"});
  fields.refused("fan_in_fan_out", "no family here stores its weights transposed", {"false"});
  fields.refused("layer_replication", "layers are not replicated", {"[]"});
  fields.refused("trainable_token_indices", "modules_to_save trains the whole embedding", {"[]"});
  fields.refused("ensure_weight_tying", "a tied pair stays tied only while neither is trained", {"false"});
  fields.refused("megatron_config", "there is no Megatron here", {});
  fields.refused("use_qalora", "QALoRA is not built; LoRA and rsLoRA (use_rslora) are", {"false"});
  fields.refused("use_bdlora", "BD-LoRA is not built; LoRA and rsLoRA (use_rslora) are", {"false", "{}"});
  fields.refused("alora_invocation_tokens", "activated LoRA is not built: an adapter works on every token", {"[]"});
  for (const char* name : {"kasa_config", "velora_config", "monteclora_config"}) {
    fields.refused(name, "this form of LoRA is not built; LoRA and rsLoRA (use_rslora) are", {"{}"});
  }
  for (const char* name : {"loftq_config", "eva_config", "corda_config", "lora_ga_config", "arrow_config"}) {
    fields.refused(name, "only starts that leave the base weights alone are built", {"{}"});
  }
  fields.no_effect("megatron_core", "there is no Megatron here");
  fields.no_effect("qalora_group_size", "QALoRA is not built");
  fields.no_effect("runtime_config", "it is about LoRA starts that are not built");
  fields.no_effect("auto_mapping", "PEFT writes it for itself");
  fields.no_effect("peft_version", "PEFT writes it for itself");
  fields.no_effect("peft_type", "the section is always LORA");
  fields.no_effect("inference_mode", "it is written as true into the saved adapter");
  fields.no_effect("base_model_name_or_path", "it is taken from model.path");
}

bool is_embedding(const std::string& name) {
  return name == "embed_tokens" || name.ends_with(".embed_tokens");
}

}  // namespace

void describe_fields(config::Fields& fields, LoraConfig& config) {
  fields.add("r", config.r, "Rank", config::at_least(1));
  fields.add("lora_alpha", config.lora_alpha, "Scale: alpha / r, or alpha / sqrt(r) with use_rslora", config::above(0));
  fields.add("lora_dropout", config.lora_dropout, "Dropout before A", config::from_to_below(0, 1));
  fields.add("target_modules", config.target_modules,
             "Modules that get an adapter: names, a regular expression for whole paths, or all-linear");
  fields.add("exclude_modules", config.exclude_modules, "Modules that get none, though they are targets");
  fields.add("rank_pattern", config.rank_pattern, "Other ranks: regular expression for the end of a path -> r");
  fields.add("alpha_pattern", config.alpha_pattern,
             "Other scales: regular expression for the end of a path -> lora_alpha");
  fields.add("use_rslora", config.use_rslora, "Rank-stabilised scale");
  fields.add("bias", config.bias, "Which biases of the base train too");
  fields.add("layers_to_transform", config.layers_to_transform, "Layers that get adapters; empty: all");
  fields.add("layers_pattern", config.layers_pattern, "Name of the module list that layers_to_transform counts in");
  fields.add("modules_to_save", config.modules_to_save, "Modules that train in full and are saved with the adapter");
  fields.add("init_lora_weights", config.init_lora_weights,
             "Start of A: Kaiming-uniform (true) or gaussian; B starts at zero");
  fields.add("task_type", config.task_type, "PEFT's task type");
  fields.add(
      "adapter", config.adapter,
      "Directory of an adapter to continue from; its settings are in force, and a written key that says otherwise is a "
      "fault");
  describe_others(fields);
}

void validate(const LoraConfig& config, config::Section& section) {
  using Kind = TargetModules::Kind;
  if (config.target_modules.kind == Kind::kNames) {
    for (const std::string& name : config.target_modules.names) {
      if (!is_embedding(name)) continue;
      section.fault("target_modules",
                    concat("LoRA on the embedding `", name,
                           "` is not built yet: it comes with vocabulary extension; modules_to_save: [", name,
                           "] trains it in full"));
    }
  }
  if (config.exclude_modules && config.exclude_modules->kind == Kind::kAllLinear) {
    section.fault("exclude_modules", "`all-linear` leaves nothing to adapt; name the modules to exclude");
  }
  if (config.lora_dropout >= kDropoutLimit) {
    section.fault("lora_dropout",
                  concat("`", config.lora_dropout, "` would drop every value, so that nothing is learned"));
  }
  for (const auto& [pattern, rank] : config.rank_pattern) {
    if (rank < 1) section.fault("rank_pattern", concat("the rank of `", pattern, "` must be at least 1, not ", rank));
  }
  for (const auto& [pattern, alpha] : config.alpha_pattern) {
    if (!(alpha > 0))
      section.fault("alpha_pattern", concat("the scale of `", pattern, "` must be greater than 0, not ", alpha));
  }
  for (const int64_t layer : config.layers_to_transform) {
    if (layer < 0) section.fault("layers_to_transform", concat("a layer is counted from 0, so it cannot be ", layer));
  }
  if (!config.layers_pattern.empty() && config.layers_to_transform.empty()) {
    section.fault("layers_pattern", "needs layers_to_transform: it says where those layers are counted");
  }
  if (config.target_modules.kind == Kind::kRegex && !config.layers_to_transform.empty()) {
    section.fault("layers_to_transform",
                  "works with a list of target_modules only; put the layers into the regular expression");
  }
  if (config.task_type != "CAUSAL_LM") {
    section.fault("task_type", concat("needs CAUSAL_LM, not `", config.task_type, "`"));
  }
}

}  // namespace dsft::lora

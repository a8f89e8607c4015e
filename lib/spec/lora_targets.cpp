#include "spec/lora_targets.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/nearest_name.h"
#include "spec/pattern.h"

namespace dsft::spec {

namespace {

using lora::LoraConfig;
using lora::TargetModules;

constexpr const char* kOutputEmbedding = "lm_head";

struct LinearShape {
  int64_t out_features;
  int64_t in_features;
};

/// Linear modules by path; lm_head is one also where its weight is tied and no tensor of its own exists.
std::map<std::string, LinearShape> linear_modules(const ModelSpec& spec) {
  std::map<std::string, LinearShape> modules;
  for (const TensorSpec& tensor : tensor_inventory(spec)) {
    if (tensor.is_linear_weight)
      modules[tensor.name.substr(0, tensor.name.size() - 7)] = {tensor.shape[0], tensor.shape[1]};
  }
  modules[kOutputEmbedding] = {spec.vocab_size, spec.hidden_size};
  return modules;
}

bool equals_or_ends(const std::string& path, const std::vector<std::string>& names) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return is_named_by(path, name); });
}

/// The first key of a pattern map that matches a path, or null (PEFT's get_pattern_key).
template <typename Value>
class PatternMap {
 public:
  PatternMap(const std::vector<std::pair<std::string, Value>>& entries, const std::string& where) {
    for (const auto& [key, value] : entries) entries_.emplace_back(path_end_pattern(key, where), value);
  }

  Value find(const std::string& path, Value fallback) const {
    for (const auto& [pattern, value] : entries_) {
      if (pattern.matches_start(path)) return value;
    }
    return fallback;
  }

 private:
  std::vector<std::pair<Pattern, Value>> entries_;
};

/// Decides for a path whether the settings choose it.
class Matcher {
 public:
  Matcher(const LoraConfig& config, const std::map<std::string, LinearShape>& linear)
      : config_(config), linear_(linear) {
    if (config.target_modules.kind == TargetModules::Kind::kRegex)
      regex_.emplace(config.target_modules.regex, "lora.target_modules");
    if (config.exclude_modules && config.exclude_modules->kind == TargetModules::Kind::kRegex) {
      exclude_.emplace(config.exclude_modules->regex, "lora.exclude_modules");
    }
    for (const std::string& name : config.modules_to_save)
      saved_.emplace_back("(^|.*\\.)" + name + "($|\\..*)", "lora.modules_to_save");
    if (config.layers_pattern.empty()) layers_.emplace_back(".*?\\.[^.]*\\.(\\d+)\\.", "lora.layers_to_transform");
    for (const std::string& name : config.layers_pattern)
      layers_.emplace_back("(?:^|.*?\\.)(?:" + name + ")\\.(\\d+)\\.", "lora.layers_pattern");
  }

  bool is_excluded(const std::string& path) const {
    if (exclude_ && exclude_->matches_fully(path)) return true;
    if (config_.exclude_modules && equals_or_ends(path, config_.exclude_modules->names)) return true;
    return std::any_of(saved_.begin(), saved_.end(),
                       [&](const Pattern& pattern) { return pattern.matches_start(path); });
  }

  bool is_named(const std::string& path) const {
    switch (config_.target_modules.kind) {
      case TargetModules::Kind::kAllLinear:
        return linear_.contains(path) && path != kOutputEmbedding;
      case TargetModules::Kind::kRegex:
        return regex_->matches_fully(path);
      case TargetModules::Kind::kNames:
        break;
    }
    const auto& names = config_.target_modules.names;
    // A whole path is taken without a look at the layers, as PEFT does.
    if (std::find(names.begin(), names.end(), path) != names.end()) return true;
    return equals_or_ends(path, names) && is_in_layers(path);
  }

 private:
  bool is_in_layers(const std::string& path) const {
    const auto& wanted = config_.layers_to_transform;
    if (wanted.empty()) return true;
    for (const Pattern& pattern : layers_) {
      std::string digits;
      if (!pattern.matches_start(path, &digits)) continue;
      if (digits.empty() || digits.find_first_not_of("0123456789") != std::string::npos) {
        fail(ErrorKind::kUsage, "lora.layers_pattern: its first group gives \"", digits, "\" on ", path,
             ", but the layer's number is needed: write it without groups, or with (?:...).");
      }
      return digits.size() <= 9 && std::find(wanted.begin(), wanted.end(), std::stoll(digits)) != wanted.end();
    }
    return false;
  }

  const LoraConfig& config_;
  const std::map<std::string, LinearShape>& linear_;
  std::optional<Pattern> regex_;
  std::optional<Pattern> exclude_;
  std::vector<Pattern> saved_;
  std::vector<Pattern> layers_;
};

void refuse_contradictions(const LoraConfig& config) {
  const bool is_list = config.target_modules.kind == TargetModules::Kind::kNames;
  if (!is_list && (!config.layers_to_transform.empty() || !config.layers_pattern.empty())) {
    fail(ErrorKind::kUsage,
         "lora.layers_to_transform and lora.layers_pattern need lora.target_modules to be a list of names (PEFT "
         "refuses them otherwise).");
  }
  if (!config.layers_pattern.empty() && config.layers_to_transform.empty()) {
    fail(ErrorKind::kUsage, "lora.layers_pattern is set, but lora.layers_to_transform is not: PEFT needs both.");
  }
}

[[noreturn]] void fail_on_module(const std::string& path) {
  if (path.ends_with("embed_tokens")) {
    fail(ErrorKind::kUsage, "lora.target_modules chooses ", path,
         ", an embedding: dsft does not put LoRA on embeddings. Name it in lora.modules_to_save to train it whole.");
  }
  fail(ErrorKind::kUsage, "lora.target_modules chooses ", path,
       ", which is no Linear module. Name the Linear modules themselves, such as q_proj.");
}

std::string describe(const TargetModules& targets) {
  switch (targets.kind) {
    case TargetModules::Kind::kAllLinear:
      return "all-linear";
    case TargetModules::Kind::kRegex:
      return "\"" + targets.regex + "\"";
    case TargetModules::Kind::kNames:
      break;
  }
  return "[" + join_words(targets.names, ", ") + "]";
}

[[noreturn]] void fail_on_nothing(const LoraConfig& config, const std::map<std::string, LinearShape>& linear,
                                  bool all_excluded) {
  std::set<std::string> names;
  for (const auto& [path, shape] : linear) names.insert(path.substr(path.rfind('.') + 1));
  const std::string known = join_words({names.begin(), names.end()});
  if (all_excluded) {
    fail(ErrorKind::kUsage, "lora.target_modules ", describe(config.target_modules),
         " chooses only modules that lora.exclude_modules or lora.modules_to_save take away.");
  }
  fail(ErrorKind::kUsage, "lora.target_modules ", describe(config.target_modules), " matches no module of this model",
       config.layers_to_transform.empty() ? "" : " in lora.layers_to_transform", ". Its Linear modules are ", known,
       ", with paths such as ",
       linear.begin()->first == kOutputEmbedding ? std::next(linear.begin())->first : linear.begin()->first, ".");
}

}  // namespace

bool is_named_by(const std::string& path, const std::string& name) {
  return path == name || path.ends_with("." + name);
}

Pattern path_end_pattern(const std::string& key, const std::string& where) {
  return {"(.*\\.)?(" + key + ")$", where};
}

std::vector<std::string> module_names(const ModelSpec& spec) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  const auto add_with_parents = [&](const std::string& module) {
    for (size_t dot = module.find('.'); dot != std::string::npos; dot = module.find('.', dot + 1)) {
      if (seen.insert(module.substr(0, dot)).second) names.push_back(module.substr(0, dot));
    }
    if (seen.insert(module).second) names.push_back(module);
  };
  for (const TensorSpec& tensor : tensor_inventory(spec)) {
    const std::string module = tensor.name.substr(0, tensor.name.rfind('.'));
    add_with_parents(module);
    // modules without a tensor, which a name can choose by mistake
    if (module.ends_with("mlp.down_proj")) add_with_parents(module.substr(0, module.size() - 9) + "act_fn");
    if (module == "model.norm") add_with_parents("model.rotary_emb");
  }
  add_with_parents(kOutputEmbedding);
  return names;
}

std::vector<LoraTarget> match_lora_targets(const ModelSpec& spec, const LoraConfig& config) {
  refuse_contradictions(config);
  const std::map<std::string, LinearShape> linear = linear_modules(spec);
  const Matcher matcher(config, linear);
  const PatternMap<int64_t> ranks(config.rank_pattern, "lora.rank_pattern");
  const PatternMap<double> alphas(config.alpha_pattern, "lora.alpha_pattern");
  std::vector<LoraTarget> targets;
  bool any_excluded = false;
  for (const std::string& path : module_names(spec)) {
    if (!matcher.is_named(path)) continue;
    if (matcher.is_excluded(path)) {
      any_excluded = true;
      continue;
    }
    const auto shape = linear.find(path);
    if (shape == linear.end()) fail_on_module(path);
    LoraTarget target{
        .module = path, .r = ranks.find(path, config.r), .lora_alpha = alphas.find(path, config.lora_alpha)};
    if (target.r < 1) fail(ErrorKind::kUsage, "The LoRA rank of ", path, " is ", target.r, "; it must be at least 1.");
    const double rank = static_cast<double>(target.r);
    target.scale = target.lora_alpha / (config.use_rslora ? std::sqrt(rank) : rank);
    target.out_features = shape->second.out_features;
    target.in_features = shape->second.in_features;
    targets.push_back(std::move(target));
  }
  if (targets.empty()) fail_on_nothing(config, linear, any_excluded);
  return targets;
}

std::vector<std::string> match_modules_to_save(const ModelSpec& spec, const LoraConfig& config) {
  const std::vector<std::string> names = module_names(spec);
  for (const std::string& wanted : config.modules_to_save) {
    const auto is_match = [&](const std::string& path) { return path.ends_with(wanted); };
    if (wanted.empty() || std::none_of(names.begin(), names.end(), is_match)) {
      fail(ErrorKind::kUsage, "lora.modules_to_save names ", wanted,
           ", which matches no module of this model, such as lm_head or embed_tokens.");
    }
  }
  std::vector<std::string> matched;
  for (const std::string& path : names) {
    const auto is_match = [&](const std::string& wanted) { return path.ends_with(wanted); };
    if (std::any_of(config.modules_to_save.begin(), config.modules_to_save.end(), is_match)) matched.push_back(path);
  }
  return matched;
}

}  // namespace dsft::spec

#include "spec/lora_checks.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/nearest_name.h"
#include "spec/lora_targets.h"

namespace dsft::spec {

namespace {

using lora::LoraConfig;
using lora::TargetModules;

/// The end of a path with as many parts as `name` has.
std::string end_like(const std::string& path, const std::string& name) {
  size_t begin = path.size() + 1;
  for (auto parts = 1 + std::count(name.begin(), name.end(), '.'); parts > 0 && begin > 0; --parts) {
    const size_t dot = begin >= 2 ? path.rfind('.', begin - 2) : std::string::npos;
    begin = dot == std::string::npos ? 0 : dot + 1;
  }
  return path.substr(begin);
}

std::vector<std::string> linear_paths(const ModelSpec& spec) {
  std::vector<std::string> paths;
  for (const TensorSpec& tensor : tensor_inventory(spec)) {
    if (tensor.is_linear_weight) paths.push_back(tensor.name.substr(0, tensor.name.rfind('.')));
  }
  if (spec.tie_word_embeddings) paths.emplace_back("lm_head");
  return paths;
}

/// "; did you mean `q_proj`?", or what there is.
std::string suggest(const std::string& name, const std::vector<std::string>& linear) {
  std::vector<std::string> ends;
  for (const std::string& path : linear) ends.push_back(end_like(path, name));
  const std::string nearest = nearest_name(name, ends);
  if (!nearest.empty()) return concat("; did you mean `", nearest, "`?");
  std::set<std::string> leaves;
  for (const std::string& path : linear) leaves.insert(path.substr(path.rfind('.') + 1));
  return concat("; its Linear modules are ", join_words({leaves.begin(), leaves.end()}));
}

bool matches_any(const std::vector<std::string>& modules, const std::string& name) {
  return std::any_of(modules.begin(), modules.end(),
                     [&](const std::string& module) { return is_named_by(module, name); });
}

void check_targets(const TargetModules& targets, const ModelSpec& spec, const std::vector<std::string>& modules,
                   const std::vector<LoraTarget>& chosen, std::vector<LoraRemark>& remarks) {
  if (targets.kind != TargetModules::Kind::kNames) return;
  const std::vector<std::string> linear = linear_paths(spec);
  for (const std::string& name : targets.names) {
    const bool is_chosen = std::any_of(chosen.begin(), chosen.end(),
                                       [&](const LoraTarget& target) { return is_named_by(target.module, name); });
    if (is_chosen) continue;
    if (matches_any(modules, name)) {
      remarks.push_back({"target_modules",
                         concat("`", name, "` has no effect: modules_to_save, exclude_modules or layers_to_transform ",
                                "take away all that it matches"),
                         false});
      continue;
    }
    remarks.push_back(
        {"target_modules", concat("`", name, "` matches no module of this model", suggest(name, linear)), true});
  }
}

void check_excluded(const TargetModules& excluded, const std::vector<std::string>& modules,
                    std::vector<LoraRemark>& remarks) {
  const auto add = [&](const std::string& entry) {
    remarks.push_back(
        {"exclude_modules", concat("`", entry, "` has no effect: it matches no module of this model"), false});
  };
  if (excluded.kind == TargetModules::Kind::kRegex) {
    const Pattern pattern(excluded.regex, "lora.exclude_modules");
    if (std::none_of(modules.begin(), modules.end(),
                     [&](const std::string& module) { return pattern.matches_fully(module); }))
      add(excluded.regex);
  }
  for (const std::string& name : excluded.names) {
    if (!matches_any(modules, name)) add(name);
  }
}

/// Of a pattern map the first key that matches a module gives its value; a key that does so for none has no effect.
template <typename Value>
void check_patterns(const char* key, const std::vector<std::pair<std::string, Value>>& entries,
                    const std::vector<LoraTarget>& targets, std::vector<LoraRemark>& remarks) {
  std::vector<bool> is_taken(targets.size(), false);
  for (const auto& [expression, value] : entries) {
    const Pattern pattern = path_end_pattern(expression, concat("lora.", key));
    bool matches = false, decides = false;
    for (size_t i = 0; i < targets.size(); ++i) {
      if (!pattern.matches_start(targets[i].module)) continue;
      matches = true;
      decides = decides || !is_taken[i];
      is_taken[i] = true;
    }
    if (decides) continue;
    remarks.push_back({key,
                       concat("`", expression, "` has no effect: ",
                              matches ? "an entry before it matches every module that it matches, and the first decides"
                                      : "it matches no module that gets an adapter"),
                       false});
  }
}

}  // namespace

std::vector<LoraRemark> check_lora_names(const ModelSpec& spec, const LoraConfig& config) {
  std::vector<LoraRemark> remarks;
  const std::vector<LoraTarget> targets = match_lora_targets(spec, config);
  const std::vector<std::string> modules = module_names(spec);
  check_targets(config.target_modules, spec, modules, targets, remarks);
  if (config.exclude_modules) check_excluded(*config.exclude_modules, modules, remarks);
  for (const int64_t layer : config.layers_to_transform) {
    if (layer >= spec.num_hidden_layers)
      remarks.push_back(
          {"layers_to_transform",
           concat(layer, " has no effect: the layers of this model are 0 to ", spec.num_hidden_layers - 1), false});
  }
  check_patterns("rank_pattern", config.rank_pattern, targets, remarks);
  check_patterns("alpha_pattern", config.alpha_pattern, targets, remarks);
  return remarks;
}

}  // namespace dsft::spec

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/words.h"

namespace dsft::config {
class Fields;
class Section;
}  // namespace dsft::config

namespace dsft::lora {

/// Which modules are meant, as PEFT writes it: a list of names (equal, or the end of a path after a dot), a regular
/// expression that matches the whole path, or every Linear but the output embedding ("all-linear").
struct TargetModules {
  enum class Kind { kNames, kRegex, kAllLinear };
  Kind kind = Kind::kAllLinear;
  std::vector<std::string> names;  ///< of kNames
  std::string regex;               ///< of kRegex
  bool operator==(const TargetModules&) const = default;
};

enum class Bias { kNone, kAll, kLoraOnly };

constexpr auto words_of(Bias) {
  return std::to_array<config::Word<Bias>>(
      {{"none", Bias::kNone}, {"all", Bias::kAll}, {"lora_only", Bias::kLoraOnly}});
}

/// How A starts; B starts at zero.
enum class InitLoraWeights { kDefault, kGaussian };

constexpr auto words_of(InitLoraWeights) {
  return std::to_array<config::Word<InitLoraWeights>>(
      {{"true", InitLoraWeights::kDefault}, {"gaussian", InitLoraWeights::kGaussian}});
}

/// The recipe's section `lora` (peft.LoraConfig's names).
struct LoraConfig {
  int64_t r = 16;
  double lora_alpha = 32;
  double lora_dropout = 0.0;
  TargetModules target_modules;
  std::optional<TargetModules> exclude_modules;               ///< never kAllLinear
  std::vector<std::pair<std::string, int64_t>> rank_pattern;  ///< regex -> r, in the order written: the first hit wins
  std::vector<std::pair<std::string, double>> alpha_pattern;  ///< regex -> lora_alpha
  bool use_rslora = false;
  Bias bias = Bias::kNone;
  std::vector<int64_t> layers_to_transform;  ///< empty: all layers
  std::vector<std::string> layers_pattern;
  std::vector<std::string> modules_to_save;
  InitLoraWeights init_lora_weights = InitLoraWeights::kDefault;
  std::string task_type = "CAUSAL_LM";
  std::optional<std::string> adapter;  ///< directory of an adapter to continue from
};

/// Dropout draws 16 bits: what would round to dropping everything is none. 0 <= dropout < 1 - 2^-17.
constexpr double kDropoutLimit = 1.0 - 0x1p-17;

void describe_fields(config::Fields& fields, LoraConfig& config);
/// Contradictions inside the section.
void validate(const LoraConfig& config, config::Section& section);

}  // namespace dsft::lora

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "config/words.h"

namespace dsft::config {
class Fields;
}  // namespace dsft::config

namespace dsft::rewards {

/// math_answer: is the answer of a completion the one of the row?
struct MathAnswerConfig {
  std::string column = "answer";
  bool partial = false;     ///< a wrong number p gets max(0, 1 - |p - g| / |g|)
  double tolerance = 1e-6;  ///< numbers so near are equal
  bool operator==(const MathAnswerConfig&) const = default;
};

/// format: does a completion consist of these tags, or match this expression?
struct FormatConfig {
  std::vector<std::string> tags = {"think"};
  std::optional<std::string> regex = {};  ///< instead of tags
  bool operator==(const FormatConfig&) const = default;
};

/// TRL's think_format_reward, which has no parameters: `format` with its defaults.
struct ThinkFormatConfig {
  bool operator==(const ThinkFormatConfig&) const = default;
};

enum class LengthUnit { kTokens, kCharacters, kWords };

constexpr auto words_of(LengthUnit) {
  return std::to_array<config::Word<LengthUnit>>(
      {{"tokens", LengthUnit::kTokens}, {"characters", LengthUnit::kCharacters}, {"words", LengthUnit::kWords}});
}

/// length: 1 from min to max, falling to 0 over `ramp` units outside.
struct LengthConfig {
  LengthUnit unit = LengthUnit::kTokens;
  int64_t min = 0;
  std::optional<int64_t> max = {};
  int64_t ramp = 0;
  bool operator==(const LengthConfig&) const = default;
};

/// TRL's get_soft_overlong_punishment (DAPO, eq. 13), in tokens.
struct SoftOverlongConfig {
  int64_t max_completion_len = 0;
  int64_t soft_punish_cache = 0;
  bool operator==(const SoftOverlongConfig&) const = default;
};

/// TRL's get_repetition_penalty_reward, over token ids.
struct RepetitionPenaltyConfig {
  int64_t ngram_size = 3;
  double max_penalty = -1.0;
  bool operator==(const RepetitionPenaltyConfig&) const = default;
};

/// unique_characters: how many different characters of all.
struct UniqueCharactersConfig {
  bool operator==(const UniqueCharactersConfig&) const = default;
};

/// similarity: difflib.SequenceMatcher(None, completion, column).ratio().
struct SimilarityConfig {
  std::string column = "answer";
  bool autojunk = true;
  bool operator==(const SimilarityConfig&) const = default;
};

/// tool_call: does a completion make the calls of the row?
struct ToolCallConfig {
  std::string column = "tool_calls";
  bool operator==(const ToolCallConfig&) const = default;
};

enum class JsonType { kAny, kObject, kArray };

constexpr auto words_of(JsonType) {
  return std::to_array<config::Word<JsonType>>(
      {{"any", JsonType::kAny}, {"object", JsonType::kObject}, {"array", JsonType::kArray}});
}

/// json_valid: is a completion one JSON document?
struct JsonValidConfig {
  JsonType type = JsonType::kAny;
  bool fenced = false;                 ///< the document may stand in a Markdown fence
  std::vector<std::string> keys = {};  ///< an object must have them
  bool operator==(const JsonValidConfig&) const = default;
};

/// The parameters of one built-in reward; which alternative it holds says which function it is.
using BuiltInConfig =
    std::variant<MathAnswerConfig, FormatConfig, ThinkFormatConfig, LengthConfig, SoftOverlongConfig,
                 RepetitionPenaltyConfig, UniqueCharactersConfig, SimilarityConfig, ToolCallConfig, JsonValidConfig>;

/// One row of the table of built-in rewards.
struct BuiltIn {
  std::string name;
  std::string help;                  ///< one line
  BuiltInConfig defaults;            ///< its parameters as they are where nothing is written
  std::vector<std::string> aliases;  ///< TRL's names for the same function
};

/// All built-in rewards, in the order that lists show.
const std::vector<BuiltIn>& built_in_rewards();

/// The row of a name or alias, or nullptr.
const BuiltIn* find_built_in(const std::string& name);

/// Why a name that TRL has is no reward here and what to write instead; "" for other names.
std::string explain_other_reward(const std::string& name);

/// The parameters as keys of an entry of grpo.rewards.
void describe_fields(config::Fields& fields, BuiltInConfig& config);

/// What is wrong with parameters taken together; "" where nothing is.
std::string find_fault(const BuiltInConfig& config);

/// The column of the rows that a function compares with, or "" for one that needs none.
std::string needed_column(const BuiltInConfig& config);

}  // namespace dsft::rewards

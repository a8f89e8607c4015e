#include "rewards/built_in_config.h"

#include <algorithm>

#include "base/error.h"
#include "config/fields.h"

namespace dsft::rewards {
namespace {

using config::Fields;

void describe(Fields& fields, MathAnswerConfig& config) {
  fields.add("column", config.column, "Column with the right answer");
  fields.add("partial", config.partial, "A wrong number p gets max(0, 1 - |p - g| / |g|) instead of 0");
  fields.add("tolerance", config.tolerance, "Numbers so near are equal", config::at_least(0));
}

void describe(Fields& fields, FormatConfig& config) {
  fields.add("tags", config.tags, "Tags that follow one another, the first at the start; text may follow the last");
  fields.add("regex", config.regex, "Instead of tags: Python's re.match(regex, text, DOTALL | MULTILINE)");
}

void describe(Fields&, ThinkFormatConfig&) {}

void describe(Fields& fields, LengthConfig& config) {
  fields.add("unit", config.unit, "What is counted");
  fields.add("min", config.min, "Fewest that get 1", config::at_least(0));
  fields.add("max", config.max, "Most that get 1; null: no limit", config::at_least(0));
  fields.add("ramp", config.ramp, "Outside, the reward falls to 0 over so many; 0: at once", config::at_least(0));
}

void describe(Fields& fields, SoftOverlongConfig& config) {
  fields
      .add("max_completion_len", config.max_completion_len, "Longest completion in tokens; longer ones get -1",
           config::at_least(1))
      .is_required = true;
  fields
      .add("soft_punish_cache", config.soft_punish_cache, "Over so many tokens before it the reward falls from 0 to -1",
           config::at_least(0))
      .is_required = true;
}

void describe(Fields& fields, RepetitionPenaltyConfig& config) {
  fields.add("ngram_size", config.ngram_size, "Tokens of an n-gram", config::at_least(1));
  fields.add("max_penalty", config.max_penalty, "What a fully repetitive completion would get",
             config::Range{.highest = 0});
}

void describe(Fields&, UniqueCharactersConfig&) {}

void describe(Fields& fields, SimilarityConfig& config) {
  fields.add("column", config.column, "Column with the text to compare with");
  fields.add("autojunk", config.autojunk,
             "As in difflib: in texts of 200 characters or more, characters that make up over 1% start no match");
}

void describe(Fields& fields, ToolCallConfig& config) {
  fields.add("column", config.column,
             "Column with the calls: a list of calls, a message with tool_calls, or text that makes them");
}

void describe(Fields& fields, JsonValidConfig& config) {
  fields.add("type", config.type, "What the document must be");
  fields.add("fenced", config.fenced, "It may stand in a Markdown fence (```json)");
  fields.add("keys", config.keys, "Keys that the object must have");
}

}  // namespace

const std::vector<BuiltIn>& built_in_rewards() {
  static const std::vector<BuiltIn> table = {
      {"math_answer",
       "1 where the answer (\\boxed{}, <answer>, ####, else the last number) equals the column's, as numbers or text",
       MathAnswerConfig{},
       {}},
      {"format",
       "1 where the completion has the tags in their order, or matches a regular expression",
       FormatConfig{},
       {}},
      {"think_format_reward",
       "TRL's: 1 for <think>...</think> at the start, with one <think>",
       ThinkFormatConfig{},
       {}},
      {"length", "1 for a length from min to max, less outside", LengthConfig{}, {}},
      {"soft_overlong_punishment",
       "TRL's (DAPO): 0, falling to -1 in the last tokens before the longest length",
       SoftOverlongConfig{},
       {"get_soft_overlong_punishment", "soft_overlong_punishment_reward"}},
      {"repetition_penalty",
       "TRL's: share of repeated n-grams of tokens, times max_penalty",
       RepetitionPenaltyConfig{},
       {"get_repetition_penalty_reward", "repetition_penalty_reward"}},
      {"unique_characters", "different characters / characters", UniqueCharactersConfig{}, {}},
      {"similarity", "Python's difflib.SequenceMatcher(None, completion, column).ratio()", SimilarityConfig{}, {}},
      {"tool_call", "1 where the calls made are the column's: names in order, arguments as JSON", ToolCallConfig{}, {}},
      {"json_valid", "1 where the completion is one JSON document", JsonValidConfig{}, {}},
  };
  return table;
}

const BuiltIn* find_built_in(const std::string& name) {
  for (const BuiltIn& row : built_in_rewards()) {
    if (row.name == name || std::find(row.aliases.begin(), row.aliases.end(), name) != row.aliases.end()) return &row;
  }
  return nullptr;
}

std::string explain_other_reward(const std::string& name) {
  const std::string alone = name.starts_with("get_") ? name.substr(4) : name;
  if (alone == "accuracy_reward" || alone == "reasoning_accuracy_reward" || alone == "cosine_scaled_reward") {
    return concat("`", name,
                  "` judges by the Python package math_verify, which is not built in: {name: math_answer, column: "
                  "solution} compares numbers, fractions and simple LaTeX, and a reward program can call math_verify");
  }
  if (name.find('.') != std::string::npos) {
    return concat("`", name,
                  "` looks like a Python function: run it by a reward program, {command: \"python ...\", "
                  "name: ...} (docs/rewards.md)");
  }
  return "";
}

void describe_fields(Fields& fields, BuiltInConfig& config) {
  std::visit([&](auto& parameters) { describe(fields, parameters); }, config);
}

std::string find_fault(const BuiltInConfig& config) {
  if (const auto* format = std::get_if<FormatConfig>(&config)) {
    if (format->regex && format->tags != FormatConfig{}.tags && !format->tags.empty())
      return "has both `tags` and `regex`; write one of them";
    if (!format->regex && format->tags.empty()) return "has neither `tags` nor `regex`";
    for (const std::string& tag : format->tags) {
      if (tag.empty() || tag.find_first_of("<>/ \t\n") != std::string::npos)
        return concat("has the tag `", tag, "`: write its name alone, as `think`");
    }
  }
  if (const auto* length = std::get_if<LengthConfig>(&config)) {
    if (!length->max && length->min == 0) return "gives every completion 1: write `min` or `max`";
    if (length->max && *length->max < length->min) return concat("has min ", length->min, " above max ", *length->max);
  }
  if (const auto* overlong = std::get_if<SoftOverlongConfig>(&config)) {
    if (overlong->soft_punish_cache > overlong->max_completion_len)
      return concat("has soft_punish_cache ", overlong->soft_punish_cache, " above max_completion_len ",
                    overlong->max_completion_len);
  }
  if (const auto* document = std::get_if<JsonValidConfig>(&config)) {
    if (!document->keys.empty() && document->type == JsonType::kArray) return "asks for `keys` of an array";
  }
  const bool compares = std::holds_alternative<MathAnswerConfig>(config) ||
                        std::holds_alternative<SimilarityConfig>(config) ||
                        std::holds_alternative<ToolCallConfig>(config);
  if (compares && needed_column(config).empty()) return "needs the name of a `column`";
  return "";
}

std::string needed_column(const BuiltInConfig& config) {
  return std::visit(
      [](const auto& parameters) -> std::string {
        if constexpr (requires { parameters.column; }) {
          return parameters.column;
        } else {
          return "";
        }
      },
      config);
}

}  // namespace dsft::rewards

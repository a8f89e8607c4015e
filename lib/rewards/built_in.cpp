#include "rewards/built_in.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "rewards/code_points.h"
#include "rewards/math_answer.h"
#include "rewards/similarity.h"
#include "spec/pattern.h"
#include "text/regex.h"
#include "text/tool_calls.h"
#include "text/utf8.h"
#include "text/white_space.h"

namespace dsft::rewards {
namespace {

using nlohmann::ordered_json;

/// The value of a column, or nullptr for null: the function does not apply to that row.
const ordered_json* find_column(const Sample& sample, const std::string& name) {
  const auto found = sample.columns.find(name);
  if (!sample.columns.is_object() || found == sample.columns.end())
    fail(ErrorKind::kData, "the row has no column `", name, "`; name another by `column`");
  return found->is_null() ? nullptr : &*found;
}

/// What a message says: its content, of a list of parts their texts; nothing where that is null. Null: no message.
const ordered_json* find_content(const ordered_json& value) {
  const ordered_json* message = value.is_array() && !value.empty() ? &value.back() : &value;
  if (!message->is_object() || !message->contains("role")) return nullptr;
  static const ordered_json kNothing;
  const auto content = message->find("content");
  return content == message->end() ? &kNothing : &*content;
}

std::string join_parts(const ordered_json& parts, const std::string& name) {
  std::string text;
  for (const ordered_json& part : parts) {
    if (!part.is_object() || !part.contains("text") || !part["text"].is_string())
      fail(ErrorKind::kData, "the column `", name, "` holds a message with a part that is no text");
    text += part["text"].get_ref<const std::string&>();
  }
  return text;
}

/// A column as text: a text, a number, or the content of a message or of the last one of a list; nothing for null.
std::optional<std::string> column_text(const Sample& sample, const std::string& name) {
  const ordered_json* value = find_column(sample, name);
  if (!value) return std::nullopt;
  if (value->is_number()) return value->dump();
  const ordered_json* content = find_content(*value);
  if (content && content->is_null()) return std::nullopt;
  if (content && content->is_array()) return join_parts(*content, name);
  const ordered_json& text = content ? *content : *value;
  if (text.is_string()) return text.get<std::string>();
  fail(ErrorKind::kData, "the column `", name, "` holds neither text, a number nor a message but ",
       content ? concat("a message of ", text.type_name()) : value->type_name());
}

RewardFunction make(const MathAnswerConfig& config) {
  return [config](const Sample& sample) -> std::optional<double> {
    const auto right = column_text(sample, config.column);
    return right ? std::optional(score_math_answer(sample.text, *right, config)) : std::nullopt;
  };
}

/// Python's re.match(expression, text, re.DOTALL | re.MULTILINE).
RewardFunction make_match(const std::string& expression) {
  const auto pattern = std::make_shared<spec::Pattern>("(?sm)" + expression, "grpo.rewards, `format`");
  return [pattern](const Sample& sample) -> std::optional<double> {
    return pattern->matches_start(text::replace_invalid_utf8(sample.text)) ? 1 : 0;
  };
}

/// TRL's expression for <think> (rewards/format_rewards.py), for each tag in turn.
std::string tags_expression(const std::vector<std::string>& tags) {
  std::string expression = "^";
  for (const std::string& tag : tags) {
    const std::string name = text::escape_regex(tag);
    if (expression.size() > 1) expression += "\\s*";
    expression += concat("<", name, ">(?!.*<", name, ">)(.*?)</", name, ">");
  }
  return expression + ".*$";
}

RewardFunction make(const FormatConfig& config) {
  return make_match(config.regex ? *config.regex : tags_expression(config.tags));
}

RewardFunction make(const ThinkFormatConfig&) {
  return make_match(tags_expression({"think"}));
}

int64_t count_words(const std::string& text) {
  int64_t num_words = 0;
  bool is_inside = false;
  for (const char32_t c : to_code_points(text)) {
    const bool is_space = c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F) || c == 0x85 || c == 0xA0 ||
                          c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
                          c == 0x205F || c == 0x3000;
    if (!is_space && !is_inside) ++num_words;
    is_inside = !is_space;
  }
  return num_words;
}

int64_t measure(LengthUnit unit, const Sample& sample) {
  switch (unit) {
    case LengthUnit::kTokens:
      return std::ssize(sample.completion_ids);
    case LengthUnit::kCharacters:
      return std::ssize(to_code_points(sample.text));
    case LengthUnit::kWords:
      return count_words(sample.text);
  }
  fail(ErrorKind::kInternal, "unknown unit of length");
}

RewardFunction make(const LengthConfig& config) {
  return [config](const Sample& sample) -> std::optional<double> {
    const int64_t length = measure(config.unit, sample);
    const int64_t excess = std::max({config.min - length, config.max ? length - *config.max : int64_t{0}, int64_t{0}});
    if (excess == 0) return 1;
    if (config.ramp == 0) return 0;
    return std::max(0.0, 1 - static_cast<double>(excess) / static_cast<double>(config.ramp));
  };
}

RewardFunction make(const SoftOverlongConfig& config) {
  return [config](const Sample& sample) -> std::optional<double> {
    const int64_t length = std::ssize(sample.completion_ids);
    const int64_t free = config.max_completion_len - config.soft_punish_cache;
    if (length <= free) return 0;
    if (length > config.max_completion_len) return -1;
    return static_cast<double>(free - length) / static_cast<double>(config.soft_punish_cache);
  };
}

RewardFunction make(const RepetitionPenaltyConfig& config) {
  return [config](const Sample& sample) -> std::optional<double> {
    const std::vector<int32_t>& ids = sample.completion_ids;
    const auto size = static_cast<size_t>(config.ngram_size);
    if (ids.size() < size) return 0;
    std::set<std::vector<int32_t>> unique;
    const size_t num_grams = ids.size() - size + 1;
    for (size_t i = 0; i < num_grams; ++i) {
      const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(i);
      unique.emplace(begin, begin + static_cast<std::ptrdiff_t>(size));
    }
    if (unique.size() == num_grams) return 0;
    const double scaling = 1 - static_cast<double>(unique.size()) / static_cast<double>(num_grams);
    return scaling * config.max_penalty;
  };
}

RewardFunction make(const UniqueCharactersConfig&) {
  return [](const Sample& sample) -> std::optional<double> {
    const std::u32string points = to_code_points(sample.text);
    if (points.empty()) return 0;
    const std::unordered_set<char32_t> unique(points.begin(), points.end());
    return static_cast<double>(unique.size()) / static_cast<double>(points.size());
  };
}

RewardFunction make(const SimilarityConfig& config) {
  return [config](const Sample& sample) -> std::optional<double> {
    const auto other = column_text(sample, config.column);
    return other ? std::optional(sequence_matcher_ratio(sample.text, *other, config.autojunk)) : std::nullopt;
  };
}

std::vector<text::ToolCall> calls_of_column(const ordered_json& value, const std::string& name) {
  if (value.is_string()) return text::read_tool_calls(value.get_ref<const std::string&>());
  if (value.is_array() && !value.empty() && value.back().is_object() && value.back().contains("role"))
    return text::tool_calls_of_message(value.back());
  const bool is_message = value.is_object() && (value.contains("tool_calls") || value.contains("content"));
  if (is_message) return text::tool_calls_of_message(value);
  if (!value.is_array() && !value.is_object())
    fail(ErrorKind::kData, "the column `", name, "` holds neither calls nor text but a ", value.type_name());
  ordered_json message = ordered_json::object();
  message["tool_calls"] = value.is_array() ? value : ordered_json::array({value});
  return text::tool_calls_of_message(message);
}

RewardFunction make(const ToolCallConfig& config) {
  return [config](const Sample& sample) -> std::optional<double> {
    const ordered_json* value = find_column(sample, config.column);
    if (!value) return std::nullopt;
    const auto made = text::read_tool_calls(sample.marked_text.empty() ? sample.text : sample.marked_text);
    return made == calls_of_column(*value, config.column) ? 1 : 0;
  };
}

/// What stands in a Markdown fence that is the whole text; the text itself where there is none.
std::string_view without_fence(std::string_view text) {
  constexpr std::string_view kFence = "```";
  const size_t line_end = text.find('\n');
  if (!text.starts_with(kFence) || !text.ends_with(kFence) || line_end == std::string_view::npos ||
      line_end + kFence.size() > text.size() - 1)
    return text;
  return text.substr(line_end, text.size() - kFence.size() - line_end);
}

RewardFunction make(const JsonValidConfig& config) {
  return [config](const Sample& sample) -> std::optional<double> {
    const std::string_view text =
        config.fenced ? without_fence(text::stripped(sample.text)) : std::string_view(sample.text);
    const auto document = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (document.is_discarded()) return 0;
    if (config.type == JsonType::kObject && !document.is_object()) return 0;
    if (config.type == JsonType::kArray && !document.is_array()) return 0;
    if (config.keys.empty()) return 1;
    const auto has = [&](const std::string& key) { return document.is_object() && document.contains(key); };
    return std::all_of(config.keys.begin(), config.keys.end(), has) ? 1 : 0;
  };
}

}  // namespace

RewardFunction make_built_in(const BuiltInConfig& config) {
  return std::visit([](const auto& parameters) { return make(parameters); }, config);
}

std::string find_regex_fault(const BuiltInConfig& config) {
  const auto* format = std::get_if<FormatConfig>(&config);
  if (!format || !format->regex) return "";
  try {
    spec::Pattern(*format->regex, "the reward `format` has a faulty `regex`");
    return "";
  } catch (const Error& error) {
    return error.message();
  }
}

}  // namespace dsft::rewards

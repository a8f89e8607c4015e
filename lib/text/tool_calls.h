#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dsft::text {

/// A function call read from a model's answer.
struct ToolCall {
  std::string name;
  nlohmann::json arguments;  ///< an object; unordered, so that == compares as JSON
  bool operator==(const ToolCall&) const = default;
};

/// Reads the tool calls of an answer: every `<tool_call>{...}</tool_call>` (Hermes, Qwen; inside it also
/// `<function=name>` with JSON or
/// `<parameter=key>` tags), or else Mistral's `[TOOL_CALLS]`, `<function=name>{...}</function>`, `<|python_tag|>` or a
/// bare JSON object (or a list of objects, or objects parted by ";") with "name" and "arguments" or "parameters" (Llama
/// 3). Broken JSON inside such a mark gives a ToolCall with an empty name, so that it never matches. No call: an empty
/// list.
std::vector<ToolCall> read_tool_calls(std::string_view answer);

/// The calls that a message of a data set holds: its "tool_calls" (each {type, function: {name, arguments}} or {name,
/// arguments}; arguments an object or a JSON string), or those read from its content.
std::vector<ToolCall> tool_calls_of_message(const nlohmann::ordered_json& message);

}  // namespace dsft::text

#include "evaluate/answer_match.h"

#include "text/tool_calls.h"

namespace dsft::evaluate {

std::string text_of_message(const nlohmann::ordered_json& message) {
  const auto content = message.find("content");
  if (content == message.end()) return "";
  if (content->is_string()) return content->get<std::string>();
  std::string text;
  if (!content->is_array()) return text;
  for (const auto& part : *content) {
    if (part.is_object() && part.contains("text") && part["text"].is_string()) text += part["text"].get<std::string>();
  }
  return text;
}

bool makes_same_calls(std::string_view answer, const nlohmann::ordered_json& message) {
  return text::read_tool_calls(answer) == text::tool_calls_of_message(message);
}

}  // namespace dsft::evaluate

#include "data/prompt_fields.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"

namespace dsft::data {
namespace {

using Json = nlohmann::ordered_json;

/// What prompts are made of; the other fields are for rewards.
constexpr auto kFieldsOfPrompts = std::to_array<std::string_view>(
    {"prompt", "messages", "conversations", "instruction", "input", "system", "history", "text", "token_ids"});

bool is_given(const Json& row, const char* field) {
  const auto found = row.find(field);
  return found != row.end() && !found->is_null();
}

/// A prompt alone as a row of its own format.
Json as_question(Json prompt, Json row) {
  for (const char* field : {"prompt", "conversations", "instruction"}) row.erase(field);
  const char* format = prompt.is_string() ? "text" : "messages";
  row[format] = std::move(prompt);
  return row;
}

}  // namespace

RowContent read_question(Json row) {
  if (is_given(row, "token_ids") || is_given(row, "messages")) return read_row(std::move(row));
  if (is_given(row, "prompt")) {
    if (is_given(row, "completion")) return read_row(std::move(row));
    Json prompt = std::move(row["prompt"]);
    if (!prompt.is_string() && (!prompt.is_array() || prompt.empty()))
      fail(ErrorKind::kData, "field \"prompt\": must be text or a list of messages with one at least, not ",
           prompt.is_array() ? "an empty list" : prompt.type_name(), ".");
    return read_row(as_question(std::move(prompt), std::move(row)));
  }
  if (is_given(row, "conversations") || !is_given(row, "instruction") || is_given(row, "output"))
    return read_row(std::move(row));
  row["output"] = "";
  auto question = std::get<Conversation>(read_row(std::move(row)));
  question.messages.erase(question.messages.size() - 1);
  return question;
}

void require_conversation(const RowContent& question) {
  if (std::holds_alternative<Conversation>(question)) return;
  fail(ErrorKind::kData,
       "the row is no conversation, so there is no place for a system message; write its prompt as messages, "
       "[{\"role\": \"user\", \"content\": ...}].");
}

size_t count_asked(const Conversation& question) {
  const size_t count = question.messages.size();
  return question.messages.back()["role"] == "assistant" ? count - 1 : count;
}

Json given_answer(const RowContent& question) {
  if (const auto* text = std::get_if<PlainText>(&question))
    return text->is_completion ? Json{{"role", "assistant"}, {"content", text->completion}} : Json();
  const auto* conversation = std::get_if<Conversation>(&question);
  if (conversation == nullptr) return {};
  const size_t num_asked = count_asked(*conversation);
  return num_asked < conversation->messages.size() ? conversation->messages[num_asked] : Json();
}

Json columns_of(Json row, const Json& answer) {
  Json columns = Json::object();
  for (auto& [name, value] : row.items()) {
    if (std::find(kFieldsOfPrompts.begin(), kFieldsOfPrompts.end(), name) == kFieldsOfPrompts.end())
      columns[name] = std::move(value);
  }
  if (!answer.is_null() && !columns.contains("completion")) columns["completion"] = answer;
  return columns;
}

}  // namespace dsft::data

#include "generate/row_prompt.h"

#include "base/error.h"
#include "data/content_parts.h"
#include "data/row_format.h"

namespace dsft::generate {
namespace {

using Json = nlohmann::ordered_json;

bool has(const Json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && !found->is_null();
}

// Rows of training data have an answer; a row that only asks gets an empty one or becomes a row of messages.
Json with_answer(Json row) {
  if (has(row, "token_ids") || has(row, "messages")) return row;
  if (has(row, "prompt") && !has(row, "completion")) {
    row[row["prompt"].is_string() ? "text" : "messages"] = row["prompt"];
    row.erase("prompt");
  } else if (has(row, "instruction") && !has(row, "output")) {
    row["output"] = "";
  }
  return row;
}

const std::vector<int32_t>& checked_ids(const std::vector<int32_t>& ids, const text::Tokenizer& tokenizer) {
  if (ids.empty()) fail(ErrorKind::kData, "field \"token_ids\": is empty; a prompt needs at least one token.");
  for (const int32_t id : ids) {
    if (id >= tokenizer.num_ids())
      fail(ErrorKind::kData, "field \"token_ids\": ", id, " is no token of this tokenizer, whose ids end at ",
           tokenizer.num_ids() - 1, ".");
  }
  return ids;
}

bool is_assistant(const Json& message) {
  return message["role"] == "assistant";
}

std::vector<text::ByteRange> user_ranges(const text::RenderedChat& chat) {
  std::vector<text::ByteRange> ranges;
  for (const auto& span : chat.spans) {
    if (!span.is_user_text || span.begin == span.end) continue;
    if (!ranges.empty() && ranges.back().end == span.begin)
      ranges.back().end = span.end;
    else
      ranges.push_back({span.begin, span.end});
  }
  return ranges;
}

}  // namespace

std::vector<int32_t> PromptBuilder::encode_text(const std::string& text) const {
  std::vector<int32_t> ids = assets_.tokenizer.encode(text, /*add_special_tokens=*/true);
  if (ids.empty() && assets_.tokenizer.bos_id()) ids.push_back(*assets_.tokenizer.bos_id());
  if (ids.empty())
    fail(ErrorKind::kData,
         "the prompt is empty and the tokenizer has no token for the beginning of a text; write at least one "
         "character.");
  return ids;
}

RowPrompt PromptBuilder::build_next(Json row, const std::optional<std::string>& system_prompt) const {
  const data::RowContent content = data::read_row(with_answer(std::move(row)));
  if (const auto* conversation = std::get_if<data::Conversation>(&content)) {
    const size_t count = conversation->messages.size();
    return build_conversation(*conversation, is_assistant(conversation->messages.back()) ? count - 1 : count,
                              system_prompt);
  }
  if (system_prompt)
    fail(ErrorKind::kData,
         "the row is no conversation, so there is no place for a system message; write its prompt as messages, "
         "[{\"role\": \"user\", \"content\": ...}].");
  if (const auto* text = std::get_if<data::PlainText>(&content)) return build_text(*text);
  return {checked_ids(std::get<data::TokenRow>(content).ids, assets_.tokenizer), {}};
}

RowPrompt PromptBuilder::build_last_answer(Json row) const {
  const data::RowContent content = data::read_row(with_answer(std::move(row)));
  if (const auto* text = std::get_if<data::PlainText>(&content))
    return text->is_completion ? build_text(*text) : RowPrompt{};
  const auto* conversation = std::get_if<data::Conversation>(&content);
  const auto answer = conversation ? data::find_answer(*conversation) : std::nullopt;
  return answer ? build_conversation(*conversation, *answer) : RowPrompt{};
}

RowPrompt PromptBuilder::build_text(const data::PlainText& text) const {
  if (!text.is_completion) return {encode_text(text.completion), {}, text.completion};
  return {encode_text(text.prompt), Json{{"role", "assistant"}, {"content", text.completion}}, text.prompt};
}

RowPrompt PromptBuilder::build_conversation(const data::Conversation& conversation, size_t num_context,
                                            const std::optional<std::string>& system_prompt) const {
  const bool has_tools = !conversation.tools.is_null();
  const auto& chat_template = has_tools ? assets_.tool_template : assets_.chat_template;
  if (!chat_template)
    fail(ErrorKind::kCheckpoint,
         "the row is a conversation, but the checkpoint has no chat template; continue a plain text instead.");
  if (has_tools && !chat_template->reads_variable("tools"))
    fail(ErrorKind::kData, "field \"tools\": the chat template never reads tools, so the model would not see them.");
  if (num_context == 0) fail(ErrorKind::kData, "field \"messages\": there is no message before the answer.");
  text::ChatInput input;
  if (system_prompt) input.messages.push_back({{"role", "system"}, {"content", *system_prompt}});
  for (size_t i = 0; i < num_context; ++i) {
    const bool is_replaced = system_prompt && i == 0 && conversation.messages[i]["role"] == "system";
    if (!is_replaced) input.messages.push_back(conversation.messages[i]);
  }
  input.tools = conversation.tools;
  input.add_generation_prompt = true;
  input.kwargs = template_kwargs_;
  input.row_kwargs = conversation.kwargs;
  const text::RenderedChat chat = chat_template->render(input, assets_.tokenizer);
  data::refuse_printed_parts(conversation, chat);
  RowPrompt prompt;
  prompt.ids = assets_.tokenizer.encode_with_offsets(chat.text, /*add_special_tokens=*/false, user_ranges(chat)).ids;
  prompt.asked = input.messages;
  if (num_context < conversation.messages.size()) prompt.answer = conversation.messages[num_context];
  return prompt;
}

}  // namespace dsft::generate

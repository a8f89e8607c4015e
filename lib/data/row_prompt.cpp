#include "data/row_prompt.h"

#include "base/error.h"
#include "data/content_parts.h"
#include "data/prompt_fields.h"

namespace dsft::data {
namespace {

using Json = nlohmann::ordered_json;

const std::vector<int32_t>& checked_ids(const std::vector<int32_t>& ids, const text::Tokenizer& tokenizer) {
  if (ids.empty()) fail(ErrorKind::kData, "field \"token_ids\": is empty; a prompt needs at least one token.");
  for (const int32_t id : ids) {
    if (id >= tokenizer.num_ids())
      fail(ErrorKind::kData, "field \"token_ids\": ", id, " is no token of this tokenizer, whose ids end at ",
           tokenizer.num_ids() - 1, ".");
  }
  return ids;
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
  const RowContent content = read_question(std::move(row));
  if (const auto* conversation = std::get_if<Conversation>(&content))
    return build_conversation(*conversation, count_asked(*conversation), system_prompt);
  if (system_prompt) require_conversation(content);
  if (const auto* text = std::get_if<PlainText>(&content)) return build_text(*text);
  return {checked_ids(std::get<TokenRow>(content).ids, assets_.tokenizer), {}};
}

RowPrompt PromptBuilder::build_last_answer(Json row) const {
  const RowContent content = read_question(std::move(row));
  if (const auto* text = std::get_if<PlainText>(&content)) return text->is_completion ? build_text(*text) : RowPrompt{};
  const auto* conversation = std::get_if<Conversation>(&content);
  const auto answer = conversation ? find_answer(*conversation) : std::nullopt;
  return answer ? build_conversation(*conversation, *answer) : RowPrompt{};
}

RowPrompt PromptBuilder::build_text(const PlainText& text) const {
  if (!text.is_completion) return {encode_text(text.completion), {}, text.completion};
  return {encode_text(text.prompt), given_answer(text), text.prompt};
}

RowPrompt PromptBuilder::build_conversation(const Conversation& conversation, size_t num_context,
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
  refuse_printed_parts(conversation, chat);
  RowPrompt prompt;
  prompt.ids = assets_.tokenizer.encode_with_offsets(chat.text, /*add_special_tokens=*/false, plain_ranges(chat)).ids;
  prompt.asked = input.messages;
  if (num_context < conversation.messages.size()) prompt.answer = conversation.messages[num_context];
  return prompt;
}

}  // namespace dsft::data

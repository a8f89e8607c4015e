#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace dsft::data {

/// A row of messages, as chat templates take them.
struct Conversation {
  nlohmann::ordered_json messages;                                   ///< list of {role, content, ...}
  nlohmann::ordered_json tools;                                      ///< null or a non-empty list
  nlohmann::ordered_json kwargs = nlohmann::ordered_json::object();  ///< the row's chat_template_kwargs
  size_t num_prompt_messages = 0;  ///< prompt/completion rows: messages of the prompt; else 0
  bool is_completion = false;      ///< from a prompt/completion row
};

/// A row of plain text: a prompt (may be empty) and what follows it.
struct PlainText {
  std::string prompt;
  std::string completion;
  bool is_completion = false;  ///< from a prompt/completion row, not a "text" row
};

/// A row that is tokenised already.
struct TokenRow {
  std::vector<int32_t> ids;
  std::vector<int32_t> labels;  ///< as many; ids[i] or kIgnored
};

/// Whether a message says that it is not to be learned: "train": false, or "weight": 0 as OpenAI writes it.
bool is_left_out(const nlohmann::ordered_json& message);

using RowContent = std::variant<Conversation, PlainText, TokenRow>;

/// Reads a row of any format of the contract; the first of these that it has decides: token_ids, messages, prompt +
/// completion, conversations, instruction, text. A field that is null counts as absent. Throws kData with the field and
/// what it should be.
///
/// conversations: `from` human/user, gpt/assistant/chatgpt/bot/model, system, tool/observation/function_response become
/// the roles user, assistant, system, tool; function_call becomes an assistant message with tool_calls, read from its
/// JSON; train and weight of a turn are kept. instruction rows become a user message (instruction, then, where not
/// empty, a newline and input), the assistant message `output`, and, where present, `system` and `history`
/// ([[question, answer], ...]) before them, as LLaMA-Factory reads them.
RowContent read_row(nlohmann::ordered_json row);

/// The message of a conversation that is its answer: the last assistant turn behind the prompt. Empty where there is
/// none.
std::optional<size_t> find_answer(const Conversation& conversation);
/// Whether a row has an answer that another can be compared with: that turn, or a completion.
bool has_answer(const RowContent& content);

}  // namespace dsft::data

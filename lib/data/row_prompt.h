#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/example_builder.h"

namespace dsft::data {

/// What a row asks a model for.
struct RowPrompt {
  std::vector<int32_t> ids;
  nlohmann::ordered_json
      answer;  ///< the message that the row has at this place ({role, content, ...}); null where it has none
  nlohmann::ordered_json asked = {};  ///< what the ids say: a text, or a list of messages; null for token_ids
};

/// Makes prompts of rows in any data format, tokenised as in training: what users wrote never becomes a special token.
class PromptBuilder {
 public:
  /// `template_kwargs`: data.chat_template_kwargs, which a row's own override. Borrows `assets`.
  PromptBuilder(const TextAssets& assets, text::Json template_kwargs)
      : assets_(assets), template_kwargs_(std::move(template_kwargs)) {}

  /// A text to continue as it stands, with the special tokens that the tokenizer adds. Throws kData where nothing is
  /// left to begin with.
  std::vector<int32_t> encode_text(const std::string& text) const;

  /// The prompt for what comes after the row: all messages (but an assistant message that the row ends with: it is the
  /// answer), a prompt with or without completion, an instruction with or without output, a text or token_ids to
  /// continue. `system_prompt`: takes the place of the system message that the row begins with, or stands before its
  /// first message; the row must be a conversation then. Throws kData.
  RowPrompt build_next(nlohmann::ordered_json row, const std::optional<std::string>& system_prompt = {}) const;

  /// The prompt for the row's last assistant message, or its completion. `answer` is null where it has none. Throws
  /// kData.
  RowPrompt build_last_answer(nlohmann::ordered_json row) const;

 private:
  RowPrompt build_conversation(const Conversation& conversation, size_t num_context,
                               const std::optional<std::string>& system_prompt = {}) const;
  RowPrompt build_text(const PlainText& text) const;

  const TextAssets& assets_;
  text::Json template_kwargs_;
};

}  // namespace dsft::data

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace dsft::data {

/// What the template appends with add_generation_prompt ("<|im_start|>assistant\n"), and the byte where each of its
/// tokens ends.
struct GenerationPrompt {
  std::string text;
  std::vector<size_t> token_ends;
};

/// Renders a one-message conversation with and without it, with the further variables of `input`, and takes the
/// difference; empty where the template has none.
GenerationPrompt find_generation_prompt(const text::ChatTemplate& chat_template, const text::Tokenizer& tokenizer,
                                        text::ChatInput input);

/// A rendered and tokenised conversation, in which turns are looked for.
struct TokenisedChat {
  const text::RenderedChat& chat;
  const text::Encoding& encoding;
  const GenerationPrompt& generation_prompt;
  const text::Tokenizer& tokenizer;
  const std::vector<int32_t>& stop_ids;  ///< eos of the tokenizer and of generation_config.json
};

/// Where the model speaks for one message.
struct AssistantTurn {
  size_t begin = 0;                ///< first byte after what the generation prompt supplies
  size_t end = 0;                  ///< one past the last byte of the turn, or of its stop token
  std::optional<size_t> stop_end;  ///< end of the turn's stop token; nullopt where the template writes none
  std::vector<text::ByteRange>
      runs;  ///< what is supervised: [begin, stop_end), or what {% generation %} marks, up to the stop token at least
};

/// Finds the turn of message `index` on the untouched template by what the template wrote while it rendered that
/// message (no prefix is rendered again, so templates that are not prefix-preserving work as well): the model speaks
/// from where the text departs from the generation prompt up to the first known stop token behind the last word of the
/// row in that turn; where the turn has none, up to its first special token. nullopt where the template wrote nothing
/// for it. Throws kData where the turn stands in several places.
std::optional<AssistantTurn> find_assistant_turn(const TokenisedChat& tokenised, int32_t index);

}  // namespace dsft::data

#include "data/assistant_turns.h"

#include <algorithm>

#include "base/error.h"

namespace dsft::data {

namespace {

size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(std::min(a.size(), b.size())), b.begin()).first -
      a.begin());
}

/// The largest of `ends` that is at most `length`, or 0.
size_t round_down(const std::vector<size_t>& ends, size_t length) {
  const auto above = std::upper_bound(ends.begin(), ends.end(), length);
  return above == ends.begin() ? 0 : *(above - 1);
}

std::vector<size_t> token_ends(const text::Tokenizer& tokenizer, const std::string& text) {
  const text::Encoding encoding = tokenizer.encode_with_offsets(text, /*add_special_tokens=*/false);
  return {encoding.ends.begin(), encoding.ends.end()};
}

/// Where a message's turn lies in the text.
struct Extent {
  size_t begin = 0;       ///< first byte that was written in its turn
  size_t end = 0;         ///< one past the last
  size_t text_begin = 0;  ///< first byte that was copied from the row; `end` where there is none
  size_t text_end = 0;    ///< one past the last; 0 where there is none
  size_t next_text = 0;   ///< first byte behind the turn that was copied from the row, or the text's end
};

bool belongs_to(const text::RenderedChat::Span& span, int32_t index) {
  return span.turn == index || (span.turn == text::RenderedChat::kNoMessage && span.message == index);
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

/// Where the template wrote this message's turn; more than one place where the turns of others lie between.
std::vector<Extent> find_stretches(const text::RenderedChat& chat, int32_t index) {
  std::vector<Extent> found;
  bool is_open = false;
  for (const auto& span : chat.spans) {
    if (span.begin == span.end) continue;
    if (!belongs_to(span, index)) {
      is_open = is_open && span.turn == text::RenderedChat::kNoMessage;
      continue;
    }
    if (!is_open) found.push_back(Extent{.begin = span.begin, .text_begin = std::string::npos});
    is_open = true;
    Extent& extent = found.back();
    extent.end = span.end;
    if (!span.is_user_text) continue;
    extent.text_begin = std::min(extent.text_begin, span.begin);
    extent.text_end = span.end;
  }
  return found;
}

/// The one stretch of a turn that says something: a loop that only counts may have left white space before it.
std::optional<Extent> find_extent(const text::RenderedChat& chat, int32_t index) {
  std::vector<Extent> found = find_stretches(chat, index);
  if (found.size() > 1) {
    std::erase_if(found, [&](const Extent& extent) {
      return is_blank(std::string_view(chat.text).substr(extent.begin, extent.end - extent.begin));
    });
  }
  if (found.empty()) return std::nullopt;
  if (found.size() > 1)
    fail(ErrorKind::kData, "field \"messages\": the chat template writes message ", index, " in ", found.size(),
         " places, with other messages between, so its turn has no one place. Name a template that writes each message "
         "once in data.chat_template.");
  Extent extent = found.front();
  extent.text_begin = std::min(extent.text_begin, extent.end);
  extent.next_text = chat.text.size();
  for (const auto& span : chat.spans) {
    if (span.begin >= extent.end && span.is_user_text) {
      extent.next_text = span.begin;
      break;
    }
  }
  return extent;
}

/// End of the generation prompt, or of its longest beginning that ends with a token, that begins in [from, to).
std::optional<size_t> find_header_end(const TokenisedChat& tokenised, size_t from, size_t to) {
  const std::string_view text = tokenised.chat.text;
  const GenerationPrompt& prompt = tokenised.generation_prompt;
  size_t longest = 0;
  size_t header_end = 0;
  for (size_t start = from; start < to; ++start) {
    const size_t length = round_down(prompt.token_ends, common_prefix(text.substr(start), prompt.text));
    if (length > longest) {
      longest = length;
      header_end = start + length;
    }
  }
  return longest > 0 ? std::optional(header_end) : std::nullopt;
}

/// Where the model begins to speak: behind the header in the turn, or one that the template wrote at the end of the
/// turn before, or at the turn's begin.
size_t find_begin(const TokenisedChat& tokenised, const Extent& extent) {
  if (const auto inside = find_header_end(tokenised, extent.begin, extent.text_begin)) return *inside;
  const size_t reach = std::min(extent.begin, tokenised.generation_prompt.text.size());
  const auto before = find_header_end(tokenised, extent.begin - reach, extent.begin);
  return before ? std::max(*before, extent.begin) : extent.begin;
}

/// End of the first token in [from, to) for which `is_wanted` holds.
template <typename IsWanted>
std::optional<size_t> find_token_end(const text::Encoding& encoding, size_t from, size_t to, IsWanted is_wanted) {
  const auto first = std::lower_bound(encoding.begins.begin(), encoding.begins.end(), from) - encoding.begins.begin();
  for (size_t i = static_cast<size_t>(first); i < encoding.ids.size() && encoding.begins[i] < to; ++i) {
    if (is_wanted(encoding.ids[i])) return encoding.ends[i];
  }
  return std::nullopt;
}

/// A known stop token of the turn, else a special token of it, else a known stop token that the template writes behind
/// it.
std::optional<size_t> find_stop_end(const TokenisedChat& tokenised, const Extent& extent, size_t from) {
  const auto is_stop = [&](int32_t id) {
    return std::find(tokenised.stop_ids.begin(), tokenised.stop_ids.end(), id) != tokenised.stop_ids.end();
  };
  const auto is_special = [&](int32_t id) { return tokenised.tokenizer.is_special(id); };
  if (const auto stop = find_token_end(tokenised.encoding, from, extent.end, is_stop)) return stop;
  if (const auto special = find_token_end(tokenised.encoding, from, extent.end, is_special)) return special;
  return find_token_end(tokenised.encoding, std::max(from, extent.end), extent.next_text, is_stop);
}

/// The stretches of [begin, end) that `is_wanted` spans make up.
template <typename IsWanted>
std::vector<text::ByteRange> stretches(const text::RenderedChat& chat, size_t begin, size_t end, IsWanted is_wanted) {
  std::vector<text::ByteRange> runs;
  for (const auto& span : chat.spans) {
    const text::ByteRange part{std::max(span.begin, begin), std::min(span.end, end)};
    if (part.begin >= part.end || !is_wanted(span)) continue;
    if (!runs.empty() && runs.back().end == part.begin) {
      runs.back().end = part.end;
    } else {
      runs.push_back(part);
    }
  }
  return runs;
}

}  // namespace

GenerationPrompt find_generation_prompt(const text::ChatTemplate& chat_template, const text::Tokenizer& tokenizer,
                                        text::ChatInput input) {
  input.messages = text::Json::parse(R"([{"role": "user", "content": "x"}])");
  input.tools = nullptr;
  GenerationPrompt prompt;
  try {
    const std::string closed = chat_template.render(input, tokenizer).text;
    input.add_generation_prompt = true;
    const std::string open = chat_template.render(input, tokenizer).text;
    // a template may close the conversation where no answer is asked for, so `closed` need not be a prefix of `open`
    const size_t common = common_prefix(closed, open);
    prompt.text = open.substr(common == closed.size() ? common : round_down(token_ends(tokenizer, open), common));
  } catch (const Error&) {
    return {};  // the template refuses such a conversation: turns are found without it
  }
  prompt.token_ends = token_ends(tokenizer, prompt.text);
  return prompt;
}

std::optional<AssistantTurn> find_assistant_turn(const TokenisedChat& tokenised, int32_t index) {
  const auto extent = find_extent(tokenised.chat, index);
  if (!extent) return std::nullopt;
  AssistantTurn turn;
  turn.begin = find_begin(tokenised, *extent);
  turn.stop_end = find_stop_end(tokenised, *extent, std::max(extent->text_end, turn.begin));
  const bool has_tag = tokenised.chat.has_generation_tag;
  const auto is_spoken = [&](const text::RenderedChat::Span& span) {
    const bool is_of_another =
        span.is_user_text && span.message != index && span.message != text::RenderedChat::kNoMessage;
    return has_tag ? span.is_generation
                   : !is_of_another;  // a tool's result inside the turn is nothing that the model says
  };
  turn.end = std::max(extent->end, turn.stop_end.value_or(0));
  turn.runs = stretches(tokenised.chat, turn.begin, turn.end, is_spoken);
  if (!turn.stop_end || turn.runs.empty()) return turn;
  if (!has_tag) {
    while (!turn.runs.empty() && turn.runs.back().begin >= *turn.stop_end) turn.runs.pop_back();
    if (!turn.runs.empty()) turn.runs.back().end = std::min(turn.runs.back().end, *turn.stop_end);
  } else if (*turn.stop_end > turn.runs.back().end) {
    turn.runs.push_back({turn.runs.back().end, *turn.stop_end});
  }
  return turn;
}

}  // namespace dsft::data

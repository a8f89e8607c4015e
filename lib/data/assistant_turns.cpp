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

/// Where a message's own characters lie, and the nearest characters of other messages around them.
struct Extent {
  size_t begin = 0;         ///< first own byte
  size_t end = 0;           ///< one past the last own byte
  size_t previous_end = 0;  ///< end of the last byte of another message before them, or 0
  size_t next_begin = 0;    ///< first byte of another message after them, or the text's end
};

std::optional<Extent> find_extent(const text::RenderedChat& chat, int32_t index) {
  Extent extent;
  bool is_found = false;
  extent.next_begin = chat.text.size();
  for (const auto& span : chat.spans) {
    if (span.message != index || span.begin == span.end) continue;
    if (!is_found) extent.begin = span.begin;
    is_found = true;
    extent.end = span.end;
  }
  if (!is_found) return std::nullopt;
  for (const auto& span : chat.spans) {
    if (span.message == index || span.message == text::RenderedChat::kNoMessage) continue;
    if (span.end <= extent.begin) extent.previous_end = span.end;
    if (span.begin >= extent.end) {
      extent.next_begin = span.begin;
      break;
    }
  }
  return extent;
}

/// The extent of a message without a character of its own (empty content, a role that the template spells itself): the
/// gap between its neighbours.
Extent find_gap(const text::RenderedChat& chat, int32_t index) {
  Extent gap;
  for (const auto& span : chat.spans) {
    if (span.message == index - 1) gap.previous_end = span.end;
  }
  gap.next_begin = chat.text.size();
  for (const auto& span : chat.spans) {
    if (span.message == index + 1 && span.begin >= gap.previous_end) {
      gap.next_begin = span.begin;
      break;
    }
  }
  gap.begin = gap.end = gap.next_begin;
  return gap;
}

/// End of the generation prompt (or of its longest beginning that ends with a token) that begins in
/// [extent.previous_end, extent.begin].
std::optional<size_t> find_header_end(const TokenisedChat& tokenised, const Extent& extent) {
  const std::string_view text = tokenised.chat.text;
  size_t longest = 0;
  size_t header_end = 0;
  for (size_t start = extent.previous_end; start <= extent.begin; ++start) {
    const size_t length = round_down(tokenised.generation_prompt.token_ends,
                                     common_prefix(text.substr(start), tokenised.generation_prompt.text));
    if (length > longest) {
      longest = length;
      header_end = start + length;
    }
  }
  return longest > 0 ? std::optional(header_end) : std::nullopt;
}

/// Where the turn begins in a template that has no generation prompt: at the message's first character, with the blanks
/// that the template sets before it.
size_t begin_without_header(const TokenisedChat& tokenised, const Extent& extent) {
  size_t begin = extent.begin;
  while (begin > extent.previous_end &&
         (tokenised.chat.text[begin - 1] == ' ' || tokenised.chat.text[begin - 1] == '\n'))
    --begin;
  return begin;
}

std::optional<size_t> find_stop_end(const TokenisedChat& tokenised, size_t from, size_t to) {
  const text::Encoding& encoding = tokenised.encoding;
  std::optional<size_t> first_special;
  const auto first = std::lower_bound(encoding.begins.begin(), encoding.begins.end(), from) - encoding.begins.begin();
  for (size_t i = static_cast<size_t>(first); i < encoding.ids.size() && encoding.begins[i] < to; ++i) {
    const int32_t id = encoding.ids[i];
    if (std::find(tokenised.stop_ids.begin(), tokenised.stop_ids.end(), id) != tokenised.stop_ids.end())
      return encoding.ends[i];
    if (!first_special && tokenised.tokenizer.is_special(id)) first_special = encoding.ends[i];
  }
  return first_special;
}

/// What {% generation %} marks between the message's neighbours, from `begin` on.
std::vector<text::ByteRange> generation_runs(const text::RenderedChat& chat, const Extent& extent, size_t begin) {
  std::vector<text::ByteRange> runs;
  for (const auto& span : chat.spans) {
    if (!span.is_generation || span.end <= begin || span.begin >= extent.next_begin || span.begin < extent.previous_end)
      continue;
    const size_t from = std::max(span.begin, begin);
    if (!runs.empty() && runs.back().end == from) {
      runs.back().end = span.end;
    } else {
      runs.push_back({from, span.end});
    }
  }
  return runs;
}

}  // namespace

GenerationPrompt find_generation_prompt(const text::ChatTemplate& chat_template, const text::Tokenizer& tokenizer,
                                        const text::Json& kwargs) {
  text::ChatInput input;
  input.messages = text::Json::parse(R"([{"role": "user", "content": "x"}])");
  input.kwargs = kwargs;
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
  const auto own = find_extent(tokenised.chat, index);
  const Extent extent = own ? *own : find_gap(tokenised.chat, index);
  const auto header_end = find_header_end(tokenised, extent);
  if (!own && !header_end) return std::nullopt;
  AssistantTurn turn;
  turn.begin = header_end ? *header_end : begin_without_header(tokenised, extent);
  turn.stop_end = find_stop_end(tokenised, own ? std::max(own->end, turn.begin) : turn.begin, extent.next_begin);
  if (!tokenised.chat.has_generation_tag) {
    if (turn.stop_end) turn.runs.push_back({turn.begin, *turn.stop_end});
    return turn;
  }
  turn.runs = generation_runs(tokenised.chat, extent, turn.begin);
  if (!turn.runs.empty() && turn.stop_end && *turn.stop_end > turn.runs.back().end)
    turn.runs.push_back({turn.runs.back().end, *turn.stop_end});
  return turn;
}

}  // namespace dsft::data

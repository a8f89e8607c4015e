#include "generate/stop_strings.h"

#include <algorithm>

#include "base/error.h"

namespace dsft::generate {
namespace {

// How some decoders tell bytes that make no character, alone or yet.
constexpr std::string_view kNoCharacter = "\xEF\xBF\xBD";

// The first tokens of a text lose a space in some decoders.
constexpr size_t kTokensOfMargin = 4;

// What a token's text can be good for.
enum class Piece : uint8_t { kUnknown, kNoEnd, kMaybeEnd, kPartOfCharacter };

}  // namespace

struct StopStrings::State {
  const text::Tokenizer& tokenizer;
  std::vector<std::string> strings;
  size_t longest = 0;
  std::vector<Piece> pieces;  // by token

  std::string decode(std::span<const int32_t> ids) const {
    return tokenizer.decode(ids, /*skip_special_tokens=*/false);
  }

  Piece piece_of(int32_t token) {
    Piece& piece = pieces.at(static_cast<size_t>(token));
    if (piece != Piece::kUnknown) return piece;
    const std::string text = decode(std::vector<int32_t>{token, token});  // the second one keeps its space
    const bool is_part = text.find(kNoCharacter) != std::string::npos;
    const bool may_end = std::any_of(strings.begin(), strings.end(), [&](const std::string& string) {
      return text.find(string.back()) != std::string::npos;
    });
    return piece = is_part ? Piece::kPartOfCharacter : may_end ? Piece::kMaybeEnd : Piece::kNoEnd;
  }
};

StopStrings::StopStrings(const text::Tokenizer& tokenizer, std::vector<std::string> strings)
    : state_(std::make_shared<State>(tokenizer, std::move(strings))) {
  for (const std::string& string : state_->strings) {
    if (string.empty()) fail(ErrorKind::kUsage, "a stop string is empty, and would end every answer; leave it out.");
    state_->longest = std::max(state_->longest, string.size());
  }
  state_->pieces.resize(static_cast<size_t>(tokenizer.num_ids()), Piece::kUnknown);
}

bool StopStrings::operator()(std::span<const int32_t> answer) const {
  // ids beyond the tokenizer's, which a padded head may choose, have no text
  const auto has_text = [&](int32_t token) { return token < static_cast<int64_t>(state_->pieces.size()); };
  if (answer.empty() || !has_text(answer.back()) || state_->piece_of(answer.back()) == Piece::kNoEnd) return false;
  size_t first = answer.size() - std::min(answer.size(), state_->longest + kTokensOfMargin);
  // not from the middle of a character
  while (first > 0 && has_text(answer[first]) && state_->piece_of(answer[first]) == Piece::kPartOfCharacter) --first;
  const std::string text = state_->decode(answer.subspan(first));
  return std::any_of(state_->strings.begin(), state_->strings.end(),
                     [&](const std::string& string) { return text.find(string) != std::string::npos; });
}

}  // namespace dsft::generate

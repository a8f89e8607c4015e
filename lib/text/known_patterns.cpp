#include "text/known_patterns.h"

#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace dsft::text {
namespace {

constexpr uint8_t kNotOther = kLetter | kNumber | kSpace;

/// A text with the class and size of the character at each position; class 0 is "something else", and is also given
/// past the end with size 0.
class ClassifiedText {
 public:
  explicit ClassifiedText(std::string_view text) : text_(text), classes_(character_classes()) {}

  struct Character {
    uint8_t classes;
    uint8_t size;
    bool is(uint8_t mask) const { return classes & mask; }
    bool is_other() const { return size != 0 && !(classes & kNotOther); }
  };

  Character at(size_t i) const {
    if (i >= text_.size()) return {0, 0};
    const auto byte = static_cast<unsigned char>(text_[i]);
    if (byte < 0x80) return {classes_[byte], 1};
    const CodePoint c = decode_valid_utf8(text_.data() + i);
    return {classes_[c.value], static_cast<uint8_t>(c.size)};
  }

  char byte(size_t i) const { return i < text_.size() ? text_[i] : '\0'; }
  bool is_line_end(size_t i) const { return byte(i) == '\n' || byte(i) == '\r'; }
  size_t size() const { return text_.size(); }

  size_t skip(size_t i, uint8_t mask) const {
    for (Character c = at(i); c.is(mask); c = at(i)) i += c.size;
    return i;
  }
  size_t skip_other(size_t i) const {
    for (Character c = at(i); c.is_other(); c = at(i)) i += c.size;
    return i;
  }

 private:
  std::string_view text_;
  const uint8_t* classes_;
};

enum class LetterCase { kExact, kAny };

/// End of 's 't 're 've 'm 'll 'd at `i`, or `i`.
size_t skip_contraction(const ClassifiedText& text, size_t i, LetterCase letter_case) {
  if (text.byte(i) != '\'') return i;
  const char fold = letter_case == LetterCase::kAny ? 0x20 : 0;
  // only letters may be folded: '\x13' | 0x20 would be '3', and '\x53' 's'
  auto letter = [&](size_t k) {
    const char c = text.byte(k);
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c | fold) : c;
  };
  const char first = letter(i + 1);
  const char second = letter(i + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return i + 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l'))
    return i + 3;
  // U+017F, the long s, is an s when case does not matter
  if (fold != 0 && first == '\xC5' && second == '\xBF') return i + 3;
  return i;
}

/// End of `\s+(?!\S)|\s+` for the run of spaces [i, end): all of it before the end of the text, else all but its last
/// character, which goes to the next word.
size_t cut_spaces(std::string_view text, size_t i, size_t end) {
  if (end == text.size()) return end;
  const size_t last = i + last_character(text.substr(i, end - i));
  return last > i ? last : end;
}

size_t next_gpt2(const ClassifiedText& text, std::string_view raw, size_t i) {
  if (size_t end = skip_contraction(text, i, LetterCase::kExact); end != i) return end;
  const size_t start = i + (text.byte(i) == ' ');
  const auto c = text.at(start);
  if (c.is(kLetter)) return text.skip(start + c.size, kLetter);
  if (c.is(kNumber)) return text.skip(start + c.size, kNumber);
  if (c.is_other()) return text.skip_other(start + c.size);
  return cut_spaces(raw, i, text.skip(i, kSpace));
}

size_t next_llama3(const ClassifiedText& text, std::string_view raw, size_t i, size_t max_digits) {
  if (size_t end = skip_contraction(text, i, LetterCase::kAny); end != i) return end;
  const auto c = text.at(i);
  if (c.is(kLetter)) return text.skip(i + c.size, kLetter);
  if (c.is(kNumber)) {
    for (size_t n = 0; n < max_digits && text.at(i).is(kNumber); ++n) i += text.at(i).size;
    return i;
  }
  if (const auto next = text.at(i + c.size); next.is(kLetter) && !text.is_line_end(i))
    return text.skip(i + c.size + next.size, kLetter);
  const size_t start = i + (text.byte(i) == ' ');
  if (text.at(start).is_other()) {
    size_t end = text.skip_other(start);
    while (text.is_line_end(end)) ++end;
    return end;
  }
  const size_t end = text.skip(i, kSpace);
  for (size_t k = end; k > i; --k) {
    if (text.is_line_end(k - 1)) return k;
  }
  return cut_spaces(raw, i, end);
}

}  // namespace

std::optional<KnownPattern> find_known_pattern(std::string_view expression) {
  if (expression == kGpt2Pattern) return KnownPattern::kGpt2;
  if (expression == kLlama3Pattern) return KnownPattern::kLlama3;
  if (expression == kQwen2Pattern) return KnownPattern::kQwen2;
  return std::nullopt;
}

size_t next_known_match(KnownPattern pattern, std::string_view text, size_t begin) {
  const ClassifiedText classified(text);
  switch (pattern) {
    case KnownPattern::kGpt2:
      return next_gpt2(classified, text, begin);
    case KnownPattern::kLlama3:
      return next_llama3(classified, text, begin, 3);
    case KnownPattern::kQwen2:
      break;
  }
  return next_llama3(classified, text, begin, 1);
}

}  // namespace dsft::text

#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/oniguruma.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"

namespace dsft::text {
namespace {

// PCRE2's \w has no marks and only one connector; its \s has U+180E, which has not been a space since Unicode 6.3.
constexpr std::string_view kWordClass = "\\p{Alphabetic}\\p{M}\\p{N}\\p{Pc}";
constexpr std::string_view kWordInClass = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";  // Oniguruma's two differ
constexpr std::string_view kHexDigit = "0-9a-fA-F";

/// What Oniguruma's [:name:] holds; PCRE2's hold less.
constexpr auto kPosixClasses =
    std::to_array<std::pair<std::string_view, std::string_view>>({{"alnum", "\\p{Alphabetic}\\p{Nd}"},
                                                                  {"alpha", "\\p{Alphabetic}"},
                                                                  {"blank", "\\p{Zs}\\t"},
                                                                  {"cntrl", "\\p{Cc}"},
                                                                  {"digit", "\\p{Nd}"},
                                                                  {"lower", "\\p{Lowercase}"},
                                                                  {"punct", "\\p{P}\\p{S}"},
                                                                  {"space", "\\p{White_Space}"},
                                                                  {"upper", "\\p{Uppercase}"},
                                                                  {"word", kWordInClass},
                                                                  {"xdigit", kHexDigit}});

bool compiles(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP,
                                   &error, &offset, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

/// Walks through a pattern once and writes its translation.
class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      if (class_depth_ > 0) {
        step_in_class();
      } else {
        step();
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& construct) const {
    fail(ErrorKind::kCheckpoint, where_, ": the regular expression \"", pattern_, "\" has ", construct,
         ", which dsft does not read");
  }

  bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  void copy(size_t count) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }
  void replace(size_t count, std::string_view text) {
    out_ += text;
    at_ += count;
  }

  void step() {
    switch (pattern_[at_]) {
      case '\\':
        return escape();
      case '[':
        class_depth_ = 1;
        return open_class();
      case '^':  // Oniguruma's anchors are those of lines
        return replace(1, "(?m:^)");
      case '$':
        return replace(1, "(?m:$)");
      case '(':
        return group();
      case '{':
        return repetition();
      default:
        copy(1);
    }
  }

  void group() {
    if (!next_is("(?")) return copy(1);
    const size_t end = std::min(pattern_.find_first_of(":)=!<>#P'|&", at_ + 2), pattern_.size());
    const std::string_view flags = pattern_.substr(at_ + 2, end - at_ - 2);
    const size_t other = flags.find_first_not_of("ix-");
    if (other != std::string_view::npos) refuse(concat("the option (?", flags, ")"));
    copy(2);
  }

  void repetition() {
    const size_t close = pattern_.find('}', at_);
    const std::string_view inside = close == std::string_view::npos ? "x" : pattern_.substr(at_ + 1, close - at_ - 1);
    if (inside.find_first_not_of("0123456789,") != std::string_view::npos || inside.empty()) return copy(1);
    const char after = close + 1 < pattern_.size() ? pattern_[close + 1] : '\0';
    const bool is_fixed = inside.find(',') == std::string_view::npos;
    // for Oniguruma the second sign repeats the repetition, for PCRE2 it makes it possessive or reluctant
    if (after == '+' || (after == '?' && is_fixed)) refuse(concat("{", inside, "}", after));
    if (inside.starts_with(',') && inside.size() > 1) return replace(2, "{0,");
    copy(close + 1 - at_);
  }

  void escape() {
    if (at_ + 1 >= pattern_.size()) return copy(1);
    const std::string word(kWordClass), is_word = "[" + word + "]";
    switch (pattern_[at_ + 1]) {
      case 'w':
        return replace(2, is_word);
      case 'W':
        return replace(2, "[^" + word + "]");
      case 'h':
        return replace(2, concat("[", kHexDigit, "]"));
      case 'H':
        return replace(2, concat("[^", kHexDigit, "]"));
      case 'b':
        return replace(2, concat("(?:(?<=", is_word, ")(?!", is_word, ")|(?<!", is_word, ")(?=", is_word, "))"));
      case 'B':
        return replace(2, concat("(?:(?<=", is_word, ")(?=", is_word, ")|(?<!", is_word, ")(?!", is_word, "))"));
      default:
        return escape_anywhere();
    }
  }

  void escape_anywhere() {
    const char name = pattern_[at_ + 1];
    if (name == 's') return replace(2, "\\p{White_Space}");
    if (name == 'S') return replace(2, "\\P{White_Space}");
    if ((name == 'p' || name == 'P') && at_ + 2 < pattern_.size() && pattern_[at_ + 2] == '{') return property();
    if (name == 'v' || name == 'V' || name == 'C' || name == 'Q' || name == 'E' || name == 'y' || name == 'Y')
      refuse(concat("\\", name));
    copy(2);
  }

  /// \p{Han} is the script itself; PCRE2 reads it as all characters that the script uses.
  void property() {
    const size_t close = pattern_.find('}', at_);
    if (close == std::string_view::npos) return copy(2);
    const std::string start(pattern_.substr(at_, 3));
    std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
    const bool is_negated = name.starts_with('^');
    if (is_negated) name.remove_prefix(1);
    const std::string as_script = concat(start, is_negated ? "^" : "", "sc:", name, "}");
    if (name.size() > 2 && compiles(as_script)) return replace(close + 1 - at_, as_script);
    copy(close + 1 - at_);
  }

  void open_class() {
    copy(1);
    if (next_is("^")) copy(1);
    if (next_is("]")) copy(1);
  }

  void step_in_class() {
    const size_t close = next_is("[:") ? pattern_.find(":]", at_) : std::string_view::npos;
    if (close != std::string_view::npos) return posix_class(pattern_.substr(at_ + 2, close - at_ - 2));
    if (next_is("&&")) refuse("an intersection of character classes (&&)");
    switch (pattern_[at_]) {
      case '\\':
        return escape_in_class();
      case '[':
        return open_nested_class();
      case ']':
        return close_class();
      default:
        copy(1);
    }
  }

  void posix_class(std::string_view name) {
    for (const auto& [known, members] : kPosixClasses) {
      if (name == known) return replace(name.size() + 4, members);
    }
    refuse(concat("[:", name, ":]"));
  }

  /// A class inside a class is their union, so its brackets may be left out.
  void open_nested_class() {
    const bool joins_range = out_.ends_with('-') || next_is("[-");
    if (next_is("[^") || next_is("[]") || joins_range) refuse("a character class inside a character class");
    ++class_depth_;
    ++at_;
  }

  void close_class() {
    if (--class_depth_ == 0) return copy(1);
    const bool joins_range = out_.ends_with('-') || next_is("]-");
    if (joins_range) refuse("a character class inside a character class");
    ++at_;
  }

  void escape_in_class() {
    if (at_ + 1 >= pattern_.size()) return copy(1);
    switch (pattern_[at_ + 1]) {
      case 'w':
        return replace(2, kWordInClass);
      case 'h':
        return replace(2, kHexDigit);
      case 'W':
      case 'H':
        refuse(concat("\\", pattern_[at_ + 1], " in a character class"));
      default:
        return escape_anywhere();
    }
  }

  std::string_view pattern_;
  const std::string& where_;
  std::string out_;
  size_t at_ = 0;
  int class_depth_ = 0;  // classes that are open
};

}  // namespace

std::string to_pcre2(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

}  // namespace dsft::text

#include "text/jinja_lexer.h"

#include <algorithm>

#include "text/jinja_fault.h"
#include "text/jinja_unicode.h"

namespace dsft::text::jinja {

namespace {

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80);
}
bool is_name_part(char c) {
  return is_name_start(c) || is_ascii_digit(c);
}

std::string with_unix_newlines(std::string_view source) {
  std::string result;
  result.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      result += source[i];
      continue;
    }
    result += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!result.empty() && result.back() == '\n') result.pop_back();
  return result;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_unix_newlines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) read_root();
    tokens_.push_back({TokenKind::kEnd, "", position_of(source_.size())});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& message, size_t at) {
    const Position position = position_of(at);
    throw SyntaxFault(message, position.line, position.column);
  }

  // Tokens come in order, so lines are counted once over the whole source.
  Position position_of(size_t at) {
    if (at < counted_) {
      counted_ = 0;
      line_ = 1;
      line_begin_ = 0;
    }
    for (; counted_ < at; ++counted_) {
      if (source_[counted_] == '\n') {
        ++line_;
        line_begin_ = counted_ + 1;
      }
    }
    return {line_, static_cast<int>(at - line_begin_) + 1};
  }

  bool starts_with(size_t at, std::string_view text) const { return source_.compare(at, text.size(), text) == 0; }

  size_t skip_spaces(size_t at) const {
    while (at < source_.size()) {
      const Character c = character_at(source_, at);
      if (!is_space(c.code)) break;
      at = c.end;
    }
    return at;
  }

  void emit(TokenKind kind, std::string text, size_t at) {
    tokens_.push_back({kind, std::move(text), position_of(at)});
  }

  void emit_data(size_t begin, size_t end) {
    if (end > begin) emit(TokenKind::kData, source_.substr(begin, end - begin), begin);
  }

  size_t find_tag(size_t from) const {
    for (size_t at = source_.find('{', from); at != std::string::npos; at = source_.find('{', at + 1)) {
      if (at + 1 < source_.size() && (source_[at + 1] == '{' || source_[at + 1] == '%' || source_[at + 1] == '#'))
        return at;
    }
    return std::string::npos;
  }

  // The end of the data in front of a tag, after "-" or lstrip_blocks.
  size_t stripped_end(size_t begin, size_t end, char sign, bool is_variable) const {
    if (sign == '-') {
      size_t keep = begin;
      for (size_t at = begin; at < end;) {
        const Character c = character_at(source_, at);
        at = c.end;
        if (!is_space(c.code)) keep = at;
      }
      return keep;
    }
    if (sign == '+' || is_variable) return end;
    // looked for in the data alone: a long line of tags would take quadratic time
    const size_t newline = std::string_view(source_).substr(begin, end - begin).rfind('\n');
    const bool has_newline = newline != std::string::npos;
    const size_t line = has_newline ? begin + newline + 1 : begin;
    if (!has_newline && !is_line_starting_) return end;
    return skip_spaces(line) >= end ? line : end;
  }

  void move_to(size_t at) {
    is_line_starting_ = at > 0 && source_[at - 1] == '\n';
    at_ = at;
  }

  void read_root() {
    const size_t begin = at_;
    const size_t tag = find_tag(begin);
    if (tag == std::string::npos) {
      emit_data(begin, source_.size());
      at_ = source_.size();
      return;
    }
    const char type = source_[tag + 1];
    const char next = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    const char sign = next == '-' || next == '+' ? next : '\0';
    emit_data(begin, stripped_end(begin, tag, sign, type == '{'));
    const size_t inside = tag + (sign ? 3 : 2);
    if (type == '#') {
      read_comment(tag, inside);
    } else if (type == '%' && read_raw(tag, inside)) {
      return;
    } else if (type == '%') {
      emit(TokenKind::kBlockBegin, "{%", tag);
      read_tag(tag, inside, "%}");
    } else {
      emit(TokenKind::kVariableBegin, "{{", tag);
      read_tag(tag, inside, "}}");
    }
  }

  // Where the text after a closing tag goes on; npos where no closing tag stands at `at`. "-" eats spaces, "+" keeps
  // the newline.
  size_t after_close(size_t at, std::string_view close, bool trims_newline) const {
    if (starts_with(at, close)) {
      const size_t end = at + close.size();
      return trims_newline && end < source_.size() && source_[end] == '\n' ? end + 1 : end;
    }
    if (source_[at] == '-' && starts_with(at + 1, close)) return skip_spaces(at + 1 + close.size());
    if (trims_newline && source_[at] == '+' && starts_with(at + 1, close)) return at + 1 + close.size();
    return std::string::npos;
  }

  void read_comment(size_t tag, size_t inside) {
    for (size_t at = inside; at < source_.size(); ++at) {
      if (source_[at] != '#' && source_[at] != '-' && source_[at] != '+') continue;
      const size_t end = after_close(at, "#}", true);
      if (end != std::string::npos) return move_to(end);
    }
    fail("a comment has no end '#}'", tag);
  }

  bool read_raw(size_t tag, size_t inside) {
    size_t at = skip_spaces(inside);
    if (!starts_with(at, "raw")) return false;
    at = skip_spaces(at + 3);
    if (at >= source_.size()) return false;
    const size_t content = after_close(at, "%}", false);
    if (content == std::string::npos) return false;
    for (size_t end = source_.find("{%", content); end != std::string::npos; end = source_.find("{%", end + 1)) {
      const char next = end + 2 < source_.size() ? source_[end + 2] : '\0';
      const char sign = next == '-' || next == '+' ? next : '\0';
      size_t word = skip_spaces(end + (sign ? 3 : 2));
      if (!starts_with(word, "endraw")) continue;
      word = skip_spaces(word + 6);
      if (word >= source_.size()) break;
      const size_t after = after_close(word, "%}", true);
      if (after == std::string::npos) continue;
      move_to(content);
      emit_data(content, stripped_end(content, end, sign, false));
      move_to(after);
      return true;
    }
    fail("a raw block has no end '{% endraw %}'", tag);
  }

  void read_tag(size_t tag, size_t inside, std::string_view close) {
    const bool is_block = close == "%}";
    size_t at = inside;
    while (true) {
      at = skip_spaces(at);
      if (at >= source_.size()) fail(is_block ? "a tag has no end '%}'" : "an expression has no end '}}'", tag);
      if (brackets_.empty()) {
        const size_t end = after_close(at, close, is_block);
        if (end != std::string::npos) {
          emit(is_block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, std::string(close), at);
          return move_to(end);
        }
      }
      at = read_token(at);
    }
  }

  size_t read_token(size_t at) {
    const char c = source_[at];
    if (is_ascii_digit(c)) return read_number(at);
    if (is_name_start(c)) return read_name(at);
    if (c == '\'' || c == '"') return read_string(at);
    return read_operator(at);
  }

  size_t read_name(size_t at) {
    size_t end = at;
    while (end < source_.size() && is_name_part(source_[end])) ++end;
    emit(TokenKind::kName, source_.substr(at, end - at), at);
    return end;
  }

  size_t digits(size_t at, bool (*accepts)(char)) const {
    while (at < source_.size() &&
           (accepts(source_[at]) || (source_[at] == '_' && at + 1 < source_.size() && accepts(source_[at + 1]))))
      ++at;
    return at;
  }

  size_t read_number(size_t at) {
    const auto is_hex = [](char c) { return is_ascii_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); };
    size_t end = at;
    bool is_float = false;
    const char prefix =
        source_[at] == '0' && at + 1 < source_.size() ? static_cast<char>(source_[at + 1] | 0x20) : '\0';
    if ((prefix == 'x' || prefix == 'o' || prefix == 'b') && at + 2 < source_.size() && is_hex(source_[at + 2])) {
      end = digits(at + 2, is_hex);
    } else {
      end = digits(at, is_ascii_digit);
      const bool follows_dot = at > 0 && source_[at - 1] == '.';
      if (!follows_dot && end + 1 < source_.size() && source_[end] == '.' && is_ascii_digit(source_[end + 1])) {
        is_float = true;
        end = digits(end + 1, is_ascii_digit);
      }
      if (!follows_dot && end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        size_t power = end + 1;
        if (power < source_.size() && (source_[power] == '+' || source_[power] == '-')) ++power;
        if (power < source_.size() && is_ascii_digit(source_[power])) {
          is_float = true;
          end = digits(power, is_ascii_digit);
        }
      }
    }
    std::string text = source_.substr(at, end - at);
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    emit(is_float ? TokenKind::kFloat : TokenKind::kInteger, std::move(text), at);
    return end;
  }

  size_t read_string(size_t at) {
    const char quote = source_[at];
    std::string value;
    size_t end = at + 1;
    while (end < source_.size() && source_[end] != quote) {
      if (source_[end] != '\\') {
        value += source_[end++];
      } else {
        end = read_escape(end, value);
      }
    }
    if (end >= source_.size()) fail("a string has no end", at);
    emit(TokenKind::kString, std::move(value), at);
    return end + 1;
  }

  int32_t read_hex(size_t at, size_t count) {
    int32_t code = 0;
    for (size_t i = 0; i < count; ++i) {
      const char c = at + i < source_.size() ? source_[at + i] : '\0';
      const char lower = static_cast<char>(c | 0x20);
      if (!is_ascii_digit(c) && !(lower >= 'a' && lower <= 'f'))
        fail("a \\x, \\u or \\U escape needs hexadecimal digits", at);
      code = code * 16 + (is_ascii_digit(c) ? c - '0' : lower - 'a' + 10);
      if (code > 0x10FFFF) fail("an escape names a character past U+10FFFF", at);
    }
    return code;
  }

  // A backslash at `at`, with the meaning of Python's string literals.
  size_t read_escape(size_t at, std::string& value) {
    if (at + 1 >= source_.size()) fail("a string has no end", at);
    const char c = source_[at + 1];
    static constexpr std::string_view kPlain = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    for (size_t i = 0; i < kPlain.size(); i += 2) {
      if (kPlain[i] != c) continue;
      value += kPlain[i + 1];
      return at + 2;
    }
    if (c == '\n') return at + 2;
    if (c >= '0' && c <= '7') {
      int32_t code = 0;
      size_t end = at + 1;
      for (; end < at + 4 && end < source_.size() && source_[end] >= '0' && source_[end] <= '7'; ++end)
        code = code * 8 + (source_[end] - '0');
      append_code_point(value, code);
      return end;
    }
    if (c == 'x' || c == 'u' || c == 'U') return read_hex_escape(at, c, value);
    if (c == 'N') fail("the escape \\N{...} is not supported: write the character itself", at);
    value += '\\';
    return at + 1;
  }

  size_t read_hex_escape(size_t at, char type, std::string& value) {
    const size_t count = type == 'x' ? 2 : (type == 'u' ? 4 : 8);
    int32_t code = read_hex(at + 2, count);
    size_t end = at + 2 + count;
    if (code >= 0xD800 && code < 0xDC00 && starts_with(end, "\\u")) {
      const int32_t low = read_hex(end + 2, 4);
      if (low >= 0xDC00 && low < 0xE000) {
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        end += 6;
      }
    }
    if (code >= 0xD800 && code < 0xE000) fail("an escape names half a surrogate pair", at);
    append_code_point(value, code);
    return end;
  }

  size_t read_operator(size_t at) {
    static constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
    for (const std::string_view op : kTwo) {
      if (!starts_with(at, op)) continue;
      emit(TokenKind::kOperator, std::string(op), at);
      return at + 2;
    }
    const char c = source_[at];
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos) {
      fail(concat("unexpected character '", source_.substr(at, character_at(source_, at).end - at), "'"), at);
    }
    balance(c, at);
    emit(TokenKind::kOperator, std::string(1, c), at);
    return at + 1;
  }

  void balance(char c, size_t at) {
    if (c == '{') brackets_ += '}';
    if (c == '(') brackets_ += ')';
    if (c == '[') brackets_ += ']';
    if (c != '}' && c != ')' && c != ']') return;
    if (brackets_.empty()) fail(concat("unexpected '", c, "'"), at);
    if (brackets_.back() != c) fail(concat("unexpected '", c, "', expected '", brackets_.back(), "'"), at);
    brackets_.pop_back();
  }

  std::string source_;
  std::vector<Token> tokens_;
  std::string brackets_;
  size_t at_ = 0;
  bool is_line_starting_ = true;
  size_t counted_ = 0;
  size_t line_begin_ = 0;
  int line_ = 1;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace dsft::text::jinja

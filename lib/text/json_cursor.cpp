#include "text/json_cursor.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "base/error.h"
#include "text/utf8.h"

namespace dsft::text {
namespace {

constexpr size_t kMaxDepth = 64;

}  // namespace

void JsonCursor::fail_here(const std::string& what) const {
  size_t line = 1 + std::count(text_.begin(), text_.begin() + std::min(position_, text_.size()), '\n');
  fail(ErrorKind::kCheckpoint, name_, ":", line, ": ", what, " (byte ", position_,
       "); the file is damaged or not a Hugging Face tokenizer.json");
}

void JsonCursor::skip_space() {
  while (position_ < text_.size()) {
    char c = text_[position_];
    if (c != ' ' && c != '\n' && c != '\t' && c != '\r') break;
    ++position_;
  }
}

char JsonCursor::peek() {
  skip_space();
  return position_ < text_.size() ? text_[position_] : '\0';
}

void JsonCursor::expect(char c) {
  if (!accept(c)) fail_here(concat("expected '", c, "'", position_ >= text_.size() ? ", but the file ends" : ""));
}

bool JsonCursor::accept(char c) {
  if (peek() != c || position_ >= text_.size()) return false;
  ++position_;
  return true;
}

void JsonCursor::expect_end() {
  skip_space();
  if (position_ != text_.size()) fail_here("there is more text after the end of the JSON value");
}

std::string_view JsonCursor::read_string(std::string& scratch) {
  expect('"');
  const size_t start = position_;
  bool has_escapes = false;
  for (;; ++position_) {
    if (position_ >= text_.size()) fail_here("a string does not end");
    const char c = text_[position_];
    if (c == '"') break;
    if (static_cast<unsigned char>(c) < 0x20) fail_here("a control character stands in a string");
    if (c != '\\') {
      if (has_escapes) scratch.push_back(c);
      continue;
    }
    if (!has_escapes) scratch.assign(text_, start, position_ - start);
    has_escapes = true;
    ++position_;
    read_escape(scratch);
  }
  const size_t end = position_++;
  return has_escapes ? std::string_view(scratch) : text_.substr(start, end - start);
}

/// Reads what follows a backslash and stops on its last character.
void JsonCursor::read_escape(std::string& out) {
  constexpr std::string_view kNames = "\"\\/bfnrt";
  constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
  const char c = position_ < text_.size() ? text_[position_] : '\0';
  if (size_t i = kNames.find(c); i != std::string_view::npos) {
    out.push_back(kValues[i]);
    return;
  }
  if (c != 'u') fail_here("a string holds an unknown escape");
  uint32_t code = read_hex4();
  if (code >= 0xD800 && code < 0xDC00 && text_.substr(position_ + 1, 2) == "\\u") {
    position_ += 2;
    uint32_t low = read_hex4();
    if (low < 0xDC00 || low > 0xDFFF) fail_here("a string holds half a surrogate pair");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  if (code >= 0xD800 && code < 0xE000) fail_here("a string holds half a surrogate pair");
  append_utf8(out, code);
}

uint32_t JsonCursor::read_hex4() {
  uint32_t value = 0;
  if (position_ + 4 >= text_.size()) fail_here("a \\u escape is cut off");
  const char* begin = text_.data() + position_ + 1;
  auto [end, error] = std::from_chars(begin, begin + 4, value, 16);
  if (error != std::errc() || end != begin + 4) fail_here("a \\u escape is not four hexadecimal digits");
  position_ += 4;
  return value;
}

int64_t JsonCursor::read_integer() {
  peek();
  int64_t value = 0;
  const char* begin = text_.data() + position_;
  auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
  if (error != std::errc() || (end != text_.data() + text_.size() && (*end == '.' || *end == 'e' || *end == 'E'))) {
    fail_here("expected a whole number");
  }
  position_ += end - begin;
  return value;
}

std::string_view JsonCursor::skip_value() {
  peek();
  const size_t start = position_;
  std::vector<char> open;
  std::string scratch;
  do {
    const char c = peek();
    if (position_ >= text_.size()) fail_here("the file ends inside a value");
    if (c == '"') {
      read_string(scratch);
      continue;
    }
    if (c == '{' || c == '[') {
      if (open.size() >= kMaxDepth) fail_here("values are nested too deeply");
      open.push_back(c == '{' ? '}' : ']');
    } else if (c == '}' || c == ']') {
      if (open.empty() || open.back() != c) fail_here("brackets do not match");
      open.pop_back();
    } else if (open.empty() && (c == ',' || c == ':')) {
      fail_here("expected a value");
    } else if (open.empty()) {
      while (position_ < text_.size() &&
             std::string_view(",]} \n\t\r").find(text_[position_]) == std::string_view::npos)
        ++position_;
      break;
    }
    ++position_;
  } while (!open.empty());
  return text_.substr(start, position_ - start);
}

}  // namespace dsft::text

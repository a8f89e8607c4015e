#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dsft::text {

/// One decoded character and how many bytes it takes.
struct CodePoint {
  uint32_t value = 0;
  uint32_t size = 0;
};

/// Decodes the character at `p` of a text known to be valid UTF-8.
inline CodePoint decode_valid_utf8(const char* p) {
  const auto* b = reinterpret_cast<const unsigned char*>(p);
  if (b[0] < 0x80) return {b[0], 1};
  if (b[0] < 0xE0) return {(b[0] & 0x1FU) << 6 | (b[1] & 0x3FU), 2};
  if (b[0] < 0xF0) return {(b[0] & 0x0FU) << 12 | (b[1] & 0x3FU) << 6 | (b[2] & 0x3FU), 3};
  return {(b[0] & 0x07U) << 18 | (b[1] & 0x3FU) << 12 | (b[2] & 0x3FU) << 6 | (b[3] & 0x3FU), 4};
}

inline bool is_utf8_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
}

/// Start of the last character of a non-empty valid text.
inline size_t last_character(std::string_view text) {
  size_t i = text.size() - 1;
  while (i > 0 && is_utf8_continuation(text[i])) --i;
  return i;
}

/// Appends one code point (below 0x110000, no surrogate).
void append_utf8(std::string& out, uint32_t code_point);

/// The text with each maximal invalid part replaced by U+FFFD, as Rust's String::from_utf8_lossy (Unicode 3.9, best
/// practice).
std::string replace_invalid_utf8(std::string_view text);

}  // namespace dsft::text

#pragma once

#include <cstddef>
#include <string_view>

namespace dsft::rewards {

constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

constexpr bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// Whether there is a digit at `at`, which may lie behind the end.
constexpr bool has_digit(std::string_view text, size_t at) {
  return at < text.size() && is_digit(text[at]);
}

/// Behind the digits that begin at `at`.
constexpr size_t skip_digits(std::string_view text, size_t at) {
  while (has_digit(text, at)) ++at;
  return at;
}

/// Behind the exponent of 3e5 or 1.5E-3 whose digits end at `at`; `at` where there is none.
constexpr size_t skip_exponent(std::string_view text, size_t at) {
  if (at >= text.size() || (text[at] != 'e' && text[at] != 'E')) return at;
  const size_t sign = at + 1;
  const size_t first = sign < text.size() && (text[sign] == '-' || text[sign] == '+') ? sign + 1 : sign;
  return has_digit(text, first) ? skip_digits(text, first) : at;
}

/// How many characters of "1,234,567" belong to a number whose first digits end at `at`: groups of exactly three.
constexpr size_t length_of_groups(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size() && text[end] == ',' && skip_digits(text, end + 1) == end + 4) end += 4;
  return end - at;
}

/// Where the bracket that opens at `open` closes, or npos.
constexpr size_t closing_brace(std::string_view text, size_t open) {
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    if (text[i] == '{') ++depth;
    if (text[i] == '}' && --depth == 0) return i;
  }
  return std::string_view::npos;
}

}  // namespace dsft::rewards

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dsft::text::jinja {

/// One character of a UTF-8 text: its code point and its bytes. Python's string functions count these.
struct Character {
  int32_t code = 0;
  uint32_t begin = 0;
  uint32_t end = 0;
};

/// The character at a byte; an invalid byte is a character of its own with its value as code.
Character character_at(std::string_view text, size_t byte);
std::vector<Character> characters_of(std::string_view text);
size_t count_characters(std::string_view text);
/// Byte of the `index`-th character (the text's size for one past the last or more).
size_t byte_of_character(std::string_view text, size_t index);
void append_code_point(std::string& out, int32_t code);

/// Python's str predicates and case mappings of one code point.
constexpr bool is_ascii_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_space(int32_t code);
bool is_line_break(int32_t code);
bool is_printable(int32_t code);
bool is_alpha(int32_t code);
bool is_decimal(int32_t code);
bool is_digit(int32_t code);
bool is_numeric(int32_t code);
bool is_upper(int32_t code);
bool is_lower(int32_t code);
void append_upper(std::string& out, int32_t code);
void append_lower(std::string& out, int32_t code);
void append_title(std::string& out, int32_t code);

}  // namespace dsft::text::jinja

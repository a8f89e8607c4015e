#include "text/jinja_unicode.h"

#include <utf8proc.h>

namespace dsft::text::jinja {

namespace {

// utf8proc maps one code point to one; these are the characters of common texts whose upper case is several (Unicode
// SpecialCasing.txt).
const char* special_upper(int32_t code) {
  switch (code) {
    case 0xDF:
      return "SS";
    case 0x149:
      return "\xCA\xBCN";
    case 0xFB00:
      return "FF";
    case 0xFB01:
      return "FI";
    case 0xFB02:
      return "FL";
    case 0xFB03:
      return "FFI";
    case 0xFB04:
      return "FFL";
    case 0xFB05:
      return "ST";
    case 0xFB06:
      return "ST";
    default:
      return nullptr;
  }
}

utf8proc_category_t category(int32_t code) {
  return utf8proc_category(code);
}

}  // namespace

Character character_at(std::string_view text, size_t byte) {
  const auto first = static_cast<unsigned char>(text[byte]);
  if (first < 0x80) return {first, static_cast<uint32_t>(byte), static_cast<uint32_t>(byte + 1)};
  utf8proc_int32_t code = 0;
  const auto* data = reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + byte;
  const utf8proc_ssize_t length = utf8proc_iterate(data, static_cast<utf8proc_ssize_t>(text.size() - byte), &code);
  if (length <= 0) return {first, static_cast<uint32_t>(byte), static_cast<uint32_t>(byte + 1)};
  return {code, static_cast<uint32_t>(byte), static_cast<uint32_t>(byte + static_cast<size_t>(length))};
}

std::vector<Character> characters_of(std::string_view text) {
  std::vector<Character> result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size(); at = result.back().end) result.push_back(character_at(text, at));
  return result;
}

size_t count_characters(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) at = character_at(text, at).end;
  return count;
}

size_t byte_of_character(std::string_view text, size_t index) {
  size_t at = 0;
  for (size_t i = 0; i < index && at < text.size(); ++i) at = character_at(text, at).end;
  return at;
}

void append_code_point(std::string& out, int32_t code) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t length = utf8proc_encode_char(code, bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

bool is_space(int32_t code) {
  if (code < 0x80) return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20);
  return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
         code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_line_break(int32_t code) {
  return (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 || code == 0x2028 ||
         code == 0x2029;
}

bool is_printable(int32_t code) {
  if (code < 0x80) return code >= 0x20 && code < 0x7F;
  switch (category(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool is_alpha(int32_t code) {
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(int32_t code) {
  return category(code) == UTF8PROC_CATEGORY_ND;
}

bool is_digit(int32_t code) {
  return is_decimal(code) || code == 0xB2 || code == 0xB3 || code == 0xB9 ||
         (code >= 0x2070 && code <= 0x2079 && category(code) == UTF8PROC_CATEGORY_NO) ||
         (code >= 0x2080 && code <= 0x2089);
}

bool is_numeric(int32_t code) {
  const auto c = category(code);
  return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

bool is_upper(int32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LU;
}
bool is_lower(int32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LL || code == 0xAA || code == 0xBA;
}

void append_upper(std::string& out, int32_t code) {
  if (const char* special = special_upper(code)) {
    out += special;
  } else {
    append_code_point(out, utf8proc_toupper(code));
  }
}

void append_lower(std::string& out, int32_t code) {
  if (code == 0x130) {
    out += "i\xCC\x87";
  } else {
    append_code_point(out, utf8proc_tolower(code));
  }
}

void append_title(std::string& out, int32_t code) {
  if (code == 0xDF) {
    out += "Ss";
  } else {
    append_code_point(out, utf8proc_totitle(code));
  }
}

}  // namespace dsft::text::jinja

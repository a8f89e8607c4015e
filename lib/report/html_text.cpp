#include "report/html_text.h"

#include <cmath>
#include <cstdio>

#include "base/error.h"

namespace dsft::report {
namespace {

// U+2400 to U+241F in UTF-8.
std::string control_picture(unsigned char character) {
  return {'\xe2', '\x90', static_cast<char>(0x80 + character)};
}

// In UTF-8.
bool is_inside_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

constexpr double kWholeFrom = 1e4, kWholeBelow = 1e12;

std::string grouped(double value) {
  std::string digits = std::to_string(std::llround(std::abs(value)));
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
  return (value < 0 ? "-" : "") + digits;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    switch (character) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      case '\t':
      case '\n':
        escaped += character;
        break;
      default:
        if (byte < 0x20)
          escaped += control_picture(byte);
        else
          escaped += character;
    }
  }
  return escaped;
}

std::string shortened_html(std::string_view text, size_t most_bytes) {
  std::string html;
  size_t end = 0;  // of what is shown
  while (end < text.size()) {
    size_t next = end + 1;
    while (next < text.size() && is_inside_character(text[next])) ++next;
    const std::string character = escape_html(text.substr(end, next - end));
    if (html.size() + character.size() > most_bytes) break;
    html += character;
    end = next;
  }
  if (end == text.size()) return html;
  return concat(html, "<span class=\"role\"> … and ", text.size() - end, " more bytes</span>");
}

std::string format_number(double value) {
  if (!std::isfinite(value)) return "–";
  if (std::abs(value) >= kWholeFrom && std::abs(value) < kWholeBelow) return grouped(value);
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g", value == 0 ? 0.0 : value);
  return text;
}

}  // namespace dsft::report

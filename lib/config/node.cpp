#include "config/node.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

namespace dsft::config {
namespace {

bool is_one_of(const std::string& text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

/// The digits as from_chars takes them: no plus sign, no underscores between digits.
std::optional<std::string> without_separators(const std::string& text) {
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_') {
      const bool is_between_digits = i > 0 && i + 1 < text.size() &&
                                     std::isdigit(static_cast<unsigned char>(text[i - 1])) &&
                                     std::isdigit(static_cast<unsigned char>(text[i + 1]));
      if (!is_between_digits) return std::nullopt;
      continue;
    }
    digits += text[i];
  }
  if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.erase(0, 1);
  return digits;
}

/// Whether a scalar has the form of a decimal number; from_chars alone would take "inf", "nan" and "nan(x)".
bool has_number_form(const std::string& digits) {
  const size_t first = digits.empty() || digits[0] != '-' ? 0 : 1;
  if (first >= digits.size()) return false;
  const char c = digits[first];
  return (c >= '0' && c <= '9') || (c == '.' && first + 1 < digits.size());
}

}  // namespace

const Entry* Node::find_entry(std::string_view key) const {
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) { return entry.key == key; });
  return found == entries.end() ? nullptr : &*found;
}

Entry* Node::find_entry(std::string_view key) {
  return const_cast<Entry*>(std::as_const(*this).find_entry(key));
}

const Node* Node::find(std::string_view key) const {
  const Entry* entry = find_entry(key);
  return entry ? &entry->value : nullptr;
}

Node* Node::find(std::string_view key) {
  return const_cast<Node*>(std::as_const(*this).find(key));
}

Node make_plain(std::string text) {
  Node node;
  node.kind = Node::Kind::kScalar;
  node.text = std::move(text);
  return node;
}

Node make_string(std::string text) {
  Node node = make_plain(std::move(text));
  node.is_string = true;
  return node;
}

Node make_null() {
  Node node;
  node.text = "null";
  return node;
}

std::optional<bool> to_bool(const Node& node) {
  if (!node.is_scalar() || node.is_string) return std::nullopt;
  if (is_one_of(node.text, {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})) return true;
  if (is_one_of(node.text, {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})) return false;
  return std::nullopt;
}

std::optional<double> to_number(const Node& node) {
  if (!node.is_scalar() || node.is_string) return std::nullopt;
  if (is_one_of(node.text, {".inf", "+.inf", ".Inf", ".INF"})) return std::numeric_limits<double>::infinity();
  if (is_one_of(node.text, {"-.inf", "-.Inf", "-.INF"})) return -std::numeric_limits<double>::infinity();
  if (is_one_of(node.text, {".nan", ".NaN", ".NAN"})) return std::numeric_limits<double>::quiet_NaN();
  const std::optional<std::string> digits = without_separators(node.text);
  if (!digits || !has_number_form(*digits)) return std::nullopt;
  double value = 0;
  const char* end = digits->data() + digits->size();
  const auto [stop, error] = std::from_chars(digits->data(), end, value);
  if (error == std::errc::result_out_of_range) {
    // 1e-400 and 1e400 leave the value alone; only too large a number is refused, by its range
    const size_t exponent = digits->find_first_of("eE");
    const bool is_tiny = exponent != std::string::npos && digits->find('-', exponent) != std::string::npos;
    return is_tiny ? 0.0 : std::numeric_limits<double>::infinity();
  }
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

std::optional<int64_t> to_integer(const Node& node) {
  if (!node.is_scalar() || node.is_string) return std::nullopt;
  const std::optional<std::string> digits = without_separators(node.text);
  if (!digits) return std::nullopt;
  int64_t value = 0;
  const char* end = digits->data() + digits->size();
  const auto [stop, error] = std::from_chars(digits->data(), end, value);
  if (error == std::errc() && stop == end) return value;
  const std::optional<double> number = to_number(node);
  // beyond 2^53 a double no longer says which whole number was meant
  if (!number || !(std::abs(*number) <= 0x1.0p53) || *number != std::floor(*number)) return std::nullopt;
  return static_cast<int64_t>(*number);
}

std::string describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return node.text.empty() ? "nothing" : "`" + node.text + "`";
    case Node::Kind::kSequence:
      return "a list";
    case Node::Kind::kMap:
      return "a map";
    case Node::Kind::kScalar:
      break;
  }
  constexpr size_t kLongest = 60;
  std::string text = node.text.substr(0, kLongest);
  std::replace(text.begin(), text.end(), '\n', ' ');
  const char* quote = node.is_string ? "\"" : "`";
  return quote + text + (node.text.size() > kLongest ? "..." : "") + quote;
}

}  // namespace dsft::config

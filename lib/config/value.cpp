#include "config/value.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"

namespace dsft::config {

void add_mismatch(const Node& node, const std::string& kind, Problems& problems) {
  const bool is_only_quoted = node.is_string && (kind.find("number") != std::string::npos || kind.starts_with("true"));
  Node plain = node;
  plain.is_string = false;
  const bool would_fit = is_only_quoted && (to_number(plain) || to_bool(plain));
  problems.push_back({node.position, concat("needs ", kind.starts_with("true") ? "" : "a ", kind, ", not ",
                                            describe(node), would_fit ? ": remove the quotes" : "")});
}

std::string number_text(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  std::array<char, 32> buffer;
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  std::string text(buffer.data(), end);
  const size_t exponent = text.find('e');
  // YAML 1.1 readers take 2e-05 for a text
  if (exponent != std::string::npos && text.find('.') == std::string::npos) text.insert(exponent, ".0");
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

void Value<bool>::read(const Node& node, bool& value, Problems& problems) {
  if (const auto read = to_bool(node)) {
    value = *read;
  } else {
    add_mismatch(node, kind(), problems);
  }
}

void Value<int64_t>::read(const Node& node, int64_t& value, Problems& problems) {
  if (const auto read = to_integer(node)) {
    value = *read;
  } else {
    add_mismatch(node, kind(), problems);
  }
}

void Value<double>::read(const Node& node, double& value, Problems& problems) {
  const auto read = to_number(node);
  if (!read) {
    add_mismatch(node, kind(), problems);
  } else if (!std::isfinite(*read)) {
    problems.push_back({node.position, concat("must be finite, not ", describe(node))});
  } else {
    value = *read;
  }
}

void Value<std::string>::read(const Node& node, std::string& value, Problems& problems) {
  if (node.is_scalar()) {
    value = node.text;
  } else {
    add_mismatch(node, kind(), problems);
  }
}

std::string word_text(const Node& node, const std::vector<std::string>& words) {
  const std::optional<bool> boolean = to_bool(node);
  if (!boolean) return node.text;
  const auto has = [&](const char* word) { return std::find(words.begin(), words.end(), word) != words.end(); };
  for (const char* word : *boolean ? std::array{"true", "yes"} : std::array{"false", "no"}) {
    if (has(word)) return word;
  }
  return node.text;
}

void add_word_mismatch(const Node& node, const std::vector<std::string>& words, Problems& problems) {
  const std::string nearest = node.is_scalar() ? nearest_name(node.text, words) : "";
  problems.push_back({node.position, concat("needs ", join_words(words, " or "), ", not ", describe(node),
                                            nearest.empty() ? "" : concat("; did you mean `", nearest, "`?"))});
}

}  // namespace dsft::config

#pragma once

#include <optional>
#include <string_view>

namespace dsft::config {

/// One word of an enumeration as it is written in a recipe. `comes_with` is empty for what is built; else the word is
/// known and refused with "comes with <comes_with>", and its value means nothing. An enum declares its table once, as
/// `constexpr auto words_of(E)`, found by its namespace.
template <typename E>
struct Word {
  std::string_view text;
  E value;
  std::string_view comes_with = {};
};

/// The word of a value ("truncate"), or "?" for a value outside the table.
template <typename E>
constexpr std::string_view to_word(E value) {
  for (const auto& word : words_of(value)) {
    if (word.value == value && word.comes_with.empty()) return word.text;
  }
  return "?";
}

/// The value of a word, or nullopt for a word that is unknown or not built yet.
template <typename E>
constexpr std::optional<E> from_word(std::string_view text) {
  for (const auto& word : words_of(E{})) {
    if (word.text == text && word.comes_with.empty()) return word.value;
  }
  return std::nullopt;
}

}  // namespace dsft::config

#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/nearest_name.h"
#include "config/node.h"
#include "config/words.h"

namespace dsft::config {

/// What is wrong with a value, and where.
struct Problem {
  Position position;
  std::string message;
};

using Problems = std::vector<Problem>;

/// How a C++ type is read from and written to YAML. A specialisation has
///   static std::string kind();                                    // "whole number": for help and messages
///   static void read(const Node&, T&, Problems&);                 // leaves T alone where there is a problem
///   static Node write(const T&);
/// and may be given by a module for its own types (in the .cpp that describes its fields).
template <typename T>
struct Value;

/// Appends "needs a <kind>, not <what stands there>".
void add_mismatch(const Node& node, const std::string& kind, Problems& problems);

/// The shortest text that reads back as the same number, in a form that every YAML reader takes for a number.
std::string number_text(double value);

template <>
struct Value<bool> {
  static std::string kind() { return "true or false"; }
  static void read(const Node& node, bool& value, Problems& problems);
  static Node write(const bool& value) { return make_plain(value ? "true" : "false"); }
};

template <>
struct Value<int64_t> {
  static std::string kind() { return "whole number"; }
  static void read(const Node& node, int64_t& value, Problems& problems);
  static Node write(const int64_t& value) { return make_plain(std::to_string(value)); }
};

template <>
struct Value<double> {
  static std::string kind() { return "number"; }
  static void read(const Node& node, double& value, Problems& problems);
  static Node write(const double& value) { return make_plain(number_text(value)); }
};

template <>
struct Value<std::string> {
  static std::string kind() { return "text"; }
  static void read(const Node& node, std::string& value, Problems& problems);
  static Node write(const std::string& value) { return make_string(value); }
};

/// null is "none".
template <typename T>
struct Value<std::optional<T>> {
  static std::string kind() { return Value<T>::kind() + " or null"; }
  static void read(const Node& node, std::optional<T>& value, Problems& problems) {
    if (node.is_null()) {
      value.reset();
      return;
    }
    T inner{};
    const size_t num_before = problems.size();
    Value<T>::read(node, inner, problems);
    if (problems.size() == num_before) value = std::move(inner);
  }
  static Node write(const std::optional<T>& value) { return value ? Value<T>::write(*value) : make_null(); }
};

/// A list; one value alone is a list of one.
template <typename T>
struct Value<std::vector<T>> {
  static std::string kind() { return "list of " + Value<T>::kind(); }
  static void read(const Node& node, std::vector<T>& values, Problems& problems) {
    const size_t num_before = problems.size();
    std::vector<T> read_values;
    const auto read_one = [&](const Node& item) {
      T value{};
      Value<T>::read(item, value, problems);
      read_values.push_back(std::move(value));
    };
    if (node.is_sequence()) {
      for (const Node& item : node.items) read_one(item);
    } else if (node.is_null()) {
      add_mismatch(node, kind(), problems);
    } else {
      read_one(node);
    }
    if (problems.size() == num_before) values = std::move(read_values);
  }
  static Node write(const std::vector<T>& values) {
    Node node;
    node.kind = Node::Kind::kSequence;
    for (const T& value : values) node.items.push_back(Value<T>::write(value));
    return node;
  }
};

/// A value that is known and not built yet, as it would be written, and what brings it.
struct LaterValue {
  std::string text;
  std::string comes_with;
};

/// The words of an enum's table that are not built yet; of a list or an optional, those of its elements.
template <typename T>
std::vector<LaterValue> later_values() {
  std::vector<LaterValue> later;
  if constexpr (std::is_enum_v<T>) {
    for (const auto& word : words_of(T{})) {
      if (!word.comes_with.empty()) later.push_back({std::string(word.text), std::string(word.comes_with)});
    }
  } else if constexpr (requires { typename T::value_type; }) {
    later = later_values<typename T::value_type>();
  }
  return later;
}

/// A map whose order matters.
template <typename T>
struct Value<std::vector<std::pair<std::string, T>>> {
  static std::string kind() { return "map from text to " + Value<T>::kind(); }
  static void read(const Node& node, std::vector<std::pair<std::string, T>>& values, Problems& problems) {
    if (!node.is_map()) {
      add_mismatch(node, kind(), problems);
      return;
    }
    const size_t num_before = problems.size();
    std::vector<std::pair<std::string, T>> read_values;
    for (const Entry& entry : node.entries) {
      T value{};
      Value<T>::read(entry.value, value, problems);
      read_values.emplace_back(entry.key, std::move(value));
    }
    if (problems.size() == num_before) values = std::move(read_values);
  }
  static Node write(const std::vector<std::pair<std::string, T>>& values) {
    Node node;
    node.kind = Node::Kind::kMap;
    for (const auto& [key, value] : values) node.entries.push_back({key, {}, Value<T>::write(value)});
    return node;
  }
};

/// The text of a scalar as a word of a table that has `words`: where YAML 1.1 takes `no` for a boolean, the word of
/// that name is meant.
std::string word_text(const Node& node, const std::vector<std::string>& words);

/// Appends what is wrong with a word that is none of `words`.
void add_word_mismatch(const Node& node, const std::vector<std::string>& words, Problems& problems);

template <typename E>
requires std::is_enum_v<E>
struct Value<E> {
  /// The words that are built, in the order of the table.
  static std::vector<std::string> words() {
    std::vector<std::string> texts;
    for (const auto& word : words_of(E{})) {
      if (word.comes_with.empty()) texts.emplace_back(word.text);
    }
    return texts;
  }
  static std::string kind() { return join_words(words(), " or "); }
  static void read(const Node& node, E& value, Problems& problems) {
    const std::string text = word_text(node, words());
    for (const auto& word : words_of(E{})) {
      if (!node.is_scalar() || word.text != text) continue;
      if (word.comes_with.empty()) {
        value = word.value;
      } else {
        problems.push_back(
            {node.position, "`" + text + "` is not built yet: it comes with " + std::string(word.comes_with)});
      }
      return;
    }
    add_word_mismatch(node, words(), problems);
  }
  static Node write(const E& value) {
    const std::string text(to_word(value));
    return text == "true" || text == "false" ? make_plain(text) : make_string(text);
  }
};

}  // namespace dsft::config

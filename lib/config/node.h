#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/fault.h"

namespace dsft::config {

struct Entry;

/// A YAML value with the place where it was written. Anchors are expanded, merge keys applied.
struct Node {
  enum class Kind { kNull, kScalar, kSequence, kMap };
  Kind kind = Kind::kNull;
  std::string text;        ///< of a scalar; of a null what was written: "null", "~" or nothing
  bool is_string = false;  ///< a scalar in quotes: never a number or a boolean
  Position position;
  std::vector<Node> items;     ///< of a sequence
  std::vector<Entry> entries;  ///< of a map, in the order written, without equal keys

  bool is_null() const { return kind == Kind::kNull; }
  bool is_scalar() const { return kind == Kind::kScalar; }
  bool is_sequence() const { return kind == Kind::kSequence; }
  bool is_map() const { return kind == Kind::kMap; }
  /// The entry of a key of a map, or nullptr.
  const Entry* find_entry(std::string_view key) const;
  Entry* find_entry(std::string_view key);
  /// The value of a key of a map, or nullptr.
  const Node* find(std::string_view key) const;
  Node* find(std::string_view key);
};

/// One `key: value` of a map.
struct Entry {
  std::string key;
  Position key_position;
  Node value;
};

/// A scalar that may be read as a number, boolean or word.
Node make_plain(std::string text);
/// A scalar that is a string whatever it looks like.
Node make_string(std::string text);
Node make_null();

/// The boolean that a plain scalar stands for (YAML 1.1: true, yes, on and their opposites, in three cases), or
/// nullopt.
std::optional<bool> to_bool(const Node& node);
/// The whole number of a plain scalar: 12, -3, +5, 1_000, 5e8, 2.0; nullopt for what is no whole number or does not
/// fit.
std::optional<int64_t> to_integer(const Node& node);
/// The number of a plain scalar, .inf and .nan included, or nullopt.
std::optional<double> to_number(const Node& node);

/// What stands there, for a message: "`abc`", "a list", "a map", "nothing".
std::string describe(const Node& node);

}  // namespace dsft::config

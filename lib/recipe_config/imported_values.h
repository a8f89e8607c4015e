#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/node.h"

namespace dsft::recipe_config {

/// The recipe's tree, into which the values of other tools' files are written, as if they stood there: reading, ranges
/// and checks then treat them like any written key, with positions in the file that they came from. Borrows all.
class ImportedValues {
 public:
  ImportedValues(config::Node& recipe, std::vector<config::Fault>& faults, std::vector<config::Fault>& warnings)
      : recipe_(recipe), faults_(faults), warnings_(warnings) {}

  /// The entry that writes a key of the recipe ("training.learning_rate"), or nullptr; null is not written.
  const config::Entry* find(std::string_view path) const;

  /// Writes a value at a key of the recipe. A different value that stands there already is a fault at the imported one,
  /// `source_key` of its file, that names both places.
  void set(const std::string& path, const config::Position& position, const std::string& source_key,
           config::Node value);
  /// The same with what `entry` of a file says.
  void set(const std::string& path, const config::Entry& entry, const std::string& source_key);
  /// Writes a value where nothing stands: a default of the other tool.
  void fill(const std::string& path, const config::Position& position, config::Node value);

  void fault(const config::Position& position, const std::string& key, std::string message);
  void warn(const config::Position& position, const std::string& key, std::string message);

 private:
  config::Node& recipe_;
  std::vector<config::Fault>& faults_;
  std::vector<config::Fault>& warnings_;
  std::map<std::string, std::string> sources_;  // by key of the recipe, the key of the file that set it
};

/// A section of another tool's file. null counts as not written.
class ImportedBlock {
 public:
  /// `path`: its full key in the file, "" at the top.
  ImportedBlock(const config::Node& map, std::string path, ImportedValues& values)
      : map_(map), path_(std::move(path)), values_(values) {}

  const std::vector<config::Entry>& entries() const { return map_.entries; }
  const config::Entry* find(std::string_view key) const;
  std::string path_of(std::string_view key) const;
  ImportedValues& values() { return values_; }

  /// The block of an entry, or one without entries where it is none, which is a fault.
  ImportedBlock inside(const config::Entry& entry);

  /// Writes the value of a key, where there is one, at a key of the recipe; "auto" leaves it to the recipe.
  void take(std::string_view key, const std::string& recipe_path);
  void fault(const config::Entry& entry, std::string message);
  void warn(const config::Entry& entry, std::string message);
  void no_effect(const config::Entry& entry, std::string_view reason);

 private:
  const config::Node& map_;
  std::string path_;
  ImportedValues& values_;
};

/// Whether a value is "auto": the recipe says it.
bool is_auto(const config::Node& node);
/// A scalar as a number, boolean or word, also where it stands in quotes.
config::Node unquoted(config::Node node);
/// Whether a value stands for true, also in quotes.
bool is_true(const config::Node& node);
/// A value in a message: `5`, `[0.9, 0.99]`.
std::string value_text(const config::Node& node);

}  // namespace dsft::recipe_config

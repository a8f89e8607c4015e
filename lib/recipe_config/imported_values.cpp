#include "recipe_config/imported_values.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "config/yaml_writer.h"

namespace dsft::recipe_config {
namespace {

using config::Entry;
using config::Node;

const Node kNoMap = [] {
  Node node;
  node.kind = Node::Kind::kMap;
  return node;
}();

bool is_same(const Node& a, const Node& b) {
  if (a.is_sequence() && b.is_sequence())
    return std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), is_same);
  if (!a.is_scalar() || !b.is_scalar()) return false;
  if (const auto number = config::to_number(a)) return number == config::to_number(b);
  if (const auto boolean = config::to_bool(a)) return boolean == config::to_bool(b);
  return a.text == b.text;
}

/// The entry of a key with the maps around it made where they are missing; nullptr where one of them is no map, which
/// reading the recipe will refuse.
Entry* make_entry(Node& recipe, std::string_view path, const config::Position& position) {
  Node* map = &recipe;
  while (true) {
    const size_t dot = path.find('.');
    Entry* found = map->find_entry(path.substr(0, dot));
    if (found == nullptr) found = &map->entries.emplace_back(Entry{std::string(path.substr(0, dot)), position, {}});
    if (dot == std::string_view::npos) return found;
    if (found->value.is_null()) {
      found->value = kNoMap;
      found->value.position = position;
    }
    if (!found->value.is_map()) return nullptr;
    map = &found->value;
    path.remove_prefix(dot + 1);
  }
}

}  // namespace

bool is_auto(const Node& node) {
  return node.is_scalar() && node.text == "auto";
}

Node unquoted(Node node) {
  node.is_string = false;
  for (Node& item : node.items) item = unquoted(std::move(item));
  return node;
}

bool is_true(const Node& node) {
  return config::to_bool(unquoted(node)).value_or(false);
}

std::string value_text(const Node& node) {
  std::string text = config::write_yaml(node);
  text.pop_back();
  constexpr size_t kLongest = 60;
  return "`" + (text.size() > kLongest ? text.substr(0, kLongest) + "..." : text) + "`";
}

const Entry* ImportedValues::find(std::string_view path) const {
  const Node* map = &recipe_;
  while (true) {
    const size_t dot = path.find('.');
    const Entry* entry = map->find_entry(path.substr(0, dot));
    if (entry == nullptr || entry->value.is_null()) return nullptr;
    if (dot == std::string_view::npos) return entry;
    map = &entry->value;
    path.remove_prefix(dot + 1);
  }
}

void ImportedValues::set(const std::string& path, const config::Position& position, const std::string& source_key,
                         Node value) {
  if (const Entry* written = find(path)) {
    if (is_same(written->value, value)) return;
    const auto source = sources_.find(path);  // a key of the same file, where it was that
    fault(position, source_key,
          concat(value_text(value), " contradicts `", source == sources_.end() ? path : source->second, "` at ",
                 config::to_string(written->key_position), ", which is ", value_text(written->value),
                 "; remove one of them"));
    return;
  }
  sources_[path] = source_key;
  fill(path, position, std::move(value));
}

void ImportedValues::set(const std::string& path, const Entry& entry, const std::string& source_key) {
  set(path, entry.key_position, source_key, unquoted(entry.value));
}

void ImportedValues::fill(const std::string& path, const config::Position& position, Node value) {
  if (find(path)) return;
  if (value.position.line == 0) value.position = position;
  Entry* entry = make_entry(recipe_, path, position);
  if (entry == nullptr) return;
  entry->key_position = position;
  entry->value = std::move(value);
}

void ImportedValues::fault(const config::Position& position, const std::string& key, std::string message) {
  if (faults_.size() < config::kMaxFaults) faults_.push_back({position, key, std::move(message)});
}

void ImportedValues::warn(const config::Position& position, const std::string& key, std::string message) {
  if (warnings_.size() < config::kMaxFaults) warnings_.push_back({position, key, std::move(message)});
}

const Entry* ImportedBlock::find(std::string_view key) const {
  const Entry* entry = map_.find_entry(key);
  return entry == nullptr || entry->value.is_null() ? nullptr : entry;
}

std::string ImportedBlock::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : concat(path_, ".", key);
}

ImportedBlock ImportedBlock::inside(const Entry& entry) {
  const bool is_block = entry.value.is_map();
  if (!is_block && !entry.value.is_null()) fault(entry, "is a block of keys, not " + config::describe(entry.value));
  return {is_block ? entry.value : kNoMap, path_of(entry.key), values_};
}

void ImportedBlock::take(std::string_view key, const std::string& recipe_path) {
  const Entry* entry = find(key);
  if (entry && !is_auto(entry->value)) values_.set(recipe_path, *entry, path_of(key));
}

void ImportedBlock::fault(const Entry& entry, std::string message) {
  values_.fault(entry.key_position, path_of(entry.key), std::move(message));
}

void ImportedBlock::warn(const Entry& entry, std::string message) {
  values_.warn(entry.key_position, path_of(entry.key), std::move(message));
}

void ImportedBlock::no_effect(const Entry& entry, std::string_view reason) {
  warn(entry, concat("has no effect: ", reason));
}

}  // namespace dsft::recipe_config

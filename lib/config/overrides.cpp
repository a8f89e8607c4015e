#include "config/overrides.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "config/yaml_reader.h"

namespace dsft::config {
namespace {

std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> keys(1);
  for (const char c : path) {
    if (c == '.') {
      keys.emplace_back();
    } else {
      keys.back() += c;
    }
  }
  return keys;
}

void move_to(Node& node, const Position& position) {
  node.position = position;
  for (Node& item : node.items) move_to(item, position);
  for (Entry& entry : node.entries) {
    entry.key_position = position;
    move_to(entry.value, position);
  }
}

/// The value of a setting, or nullopt with its fault.
std::optional<Node> read_value(const std::string& key, const std::string& text, const Position& position,
                               std::vector<Fault>& faults) {
  std::vector<Fault> own;
  Node value = read_yaml(text, kCommandLine, own);
  for (const Fault& fault : own) faults.push_back({position, key, concat("the value `", text, "`: ", fault.message)});
  if (!own.empty()) return std::nullopt;
  move_to(value, position);
  return value;
}

Node& child(Node& map, const std::string& key, const Position& position) {
  if (Node* found = map.find(key)) return *found;
  Entry& entry = map.entries.emplace_back();
  entry.key = key;
  entry.key_position = position;
  return entry.value;
}

void place(Node& root, const std::string& path, Node value, const Position& position) {
  const std::vector<std::string> keys = split_path(path);
  Node* map = &root;
  for (size_t i = 0; i < keys.size(); ++i) {
    Node& next = child(*map, keys[i], position);
    if (i + 1 == keys.size()) {
      next = std::move(value);
      for (Entry& entry : map->entries) {
        if (entry.key == keys[i]) entry.key_position = position;
      }
      return;
    }
    if (!next.is_map()) {
      next = Node{};
      next.kind = Node::Kind::kMap;
      next.position = position;
    }
    map = &next;
  }
}

}  // namespace

void apply_overrides(Node& root, const std::vector<std::string>& overrides, std::vector<Fault>& faults) {
  for (size_t i = 0; i < overrides.size(); ++i) {
    const std::string& setting = overrides[i];
    const Position position{kCommandLine, static_cast<int>(i) + 1, 1};
    const size_t equals = setting.find('=');
    const std::string key = setting.substr(0, equals);
    const bool has_empty_part =
        key.empty() || key.front() == '.' || key.back() == '.' || key.find("..") != std::string::npos;
    if (equals == std::string::npos || has_empty_part) {
      faults.push_back(
          {position, "",
           concat("`", setting, "` is no setting: write key.path=value, such as training.learning_rate=1e-4")});
      continue;
    }
    if (std::count(key.begin(), key.end(), '.') >= kMaxDepth) {
      faults.push_back({position, key, concat("has more than ", kMaxDepth, " parts")});
      continue;
    }
    if (auto value = read_value(key, setting.substr(equals + 1), position, faults))
      place(root, key, std::move(*value), position);
  }
}

}  // namespace dsft::config

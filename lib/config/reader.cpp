#include "config/reader.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace dsft::config {
namespace {

bool is_harmless(const Field& field, const Node& node) {
  const auto is_listed = [&](const std::string& text) {
    return std::find(field.harmless.begin(), field.harmless.end(), text) != field.harmless.end();
  };
  if (node.is_null()) return true;
  if (node.is_sequence()) return node.items.empty() && is_listed("[]");
  if (node.is_map()) return node.entries.empty() && is_listed("{}");
  if (const auto boolean = to_bool(node)) return is_listed(*boolean ? "true" : "false");
  if (const auto number = to_number(node)) {
    return std::any_of(field.harmless.begin(), field.harmless.end(),
                       [&](const std::string& text) { return to_number(make_plain(text)) == number; });
  }
  return is_listed(node.text);
}

/// Reads one section of a recipe.
class SectionReader {
 public:
  SectionReader(Fields& fields, const std::string& prefix, const ExplainUnknown& explain_unknown, ReadingState& state)
      : fields_(fields), prefix_(prefix), explain_unknown_(explain_unknown), state_(state) {}

  void read(const Node& map) {
    for (const Entry& entry : map.entries) read_entry(entry);
    for (const Field& field : fields_.list()) {
      // a required key with a faulty value has its fault already
      if (map.find(field.name)) continue;
      const std::string path = prefix_ + field.name;
      if (field.is_required) state_.faults.push_back({map.position, path, concat("is required: ", field.help)});
      if (field.role == Field::Role::kSection) read_absent_section(field, map.position, path);
    }
  }

 private:
  void read_entry(const Entry& entry) {
    // a text of a thousand unknown keys is no recipe; explaining each would take long
    if (state_.faults.size() == kMaxFaults)
      state_.faults.push_back({entry.key_position, "", "further faults are not listed"});
    if (state_.faults.size() >= kMaxFaults) return;
    const std::string path = prefix_ + entry.key;
    const Field* field = fields_.find(entry.key);
    if (!field) {
      state_.faults.push_back({entry.key_position, path, explain_unknown_(path, fields_)});
      return;
    }
    if (!entry.value.is_null()) state_.written[path] = entry.key_position;
    switch (field->role) {
      case Field::Role::kValue:
        read_value(*field, entry, path);
        break;
      case Field::Role::kSection:
      case Field::Role::kOptionalSection:
        read_section(*field, entry, path);
        break;
      case Field::Role::kLater:
        if (is_harmless(*field, entry.value)) break;
        state_.faults.push_back({entry.key_position, path, "is not built yet: it comes with " + field->note});
        break;
      case Field::Role::kRefused:
        if (is_harmless(*field, entry.value)) break;
        state_.faults.push_back({entry.key_position, path, "is not supported: " + field->note});
        break;
      case Field::Role::kNoEffect:
        state_.warnings.push_back({entry.key_position, path, "has no effect: " + field->note});
        break;
    }
  }

  void read_value(const Field& field, const Entry& entry, const std::string& path) {
    Problems problems;
    field.read(entry.value, problems);
    for (Problem& problem : problems) {
      const Position& place = problem.position.line > 0 ? problem.position : entry.key_position;
      state_.faults.push_back({place, path, std::move(problem.message)});
    }
  }

  void read_section(const Field& field, const Entry& entry, const std::string& path) {
    const bool is_optional = field.role == Field::Role::kOptionalSection;
    if (is_optional && entry.value.is_null() && !entry.value.text.empty()) {
      field.remove();
      return;
    }
    if (is_optional && entry.value.is_null()) {
      state_.faults.push_back({entry.key_position, path,
                               concat("has no keys: write `", field.name, ": {}` for its defaults, or `", field.name,
                                      ": null` to go without it")});
      return;
    }
    if (!entry.value.is_map() && !entry.value.is_null()) {
      state_.faults.push_back({entry.value.position, path, "is a section of keys, not " + describe(entry.value)});
      return;
    }
    const std::unique_ptr<Fields> fields = field.open();
    Node map = entry.value;
    map.position = entry.key_position;
    SectionReader(*fields, path + ".", explain_unknown_, state_).read(map);
  }

  /// A section that is not written may hold keys that are required.
  void read_absent_section(const Field& field, const Position& position, const std::string& path) {
    Node empty;
    empty.position = position;
    SectionReader(*field.open(), path + ".", explain_unknown_, state_).read(empty);
  }

  Fields& fields_;
  const std::string prefix_;
  const ExplainUnknown& explain_unknown_;
  ReadingState& state_;
};

}  // namespace

void read_fields(const Node& map, Fields& fields, const std::string& prefix, const ExplainUnknown& explain_unknown,
                 ReadingState& state) {
  state.written[""] = map.position;
  SectionReader(fields, prefix, explain_unknown, state).read(map);
}

Node write_fields(const Fields& fields) {
  Node map;
  map.kind = Node::Kind::kMap;
  for (const Field& field : fields.list()) {
    if (field.role == Field::Role::kValue) {
      map.entries.push_back({field.name, {}, field.write()});
    } else if (field.is_section() && field.is_present()) {
      map.entries.push_back({field.name, {}, write_fields(*field.open())});
    }
  }
  return map;
}

}  // namespace dsft::config

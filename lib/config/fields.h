#pragma once

#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/value.h"

namespace dsft::config {

/// Bounds of a number.
struct Range {
  double lowest = -std::numeric_limits<double>::infinity();
  double highest = std::numeric_limits<double>::infinity();
  bool is_lowest_allowed = true;
  bool is_highest_allowed = true;

  bool contains(double value) const;
  /// "greater than 0", "at least 1", "between 0 and 1", "at least 0 and less than 1"; "" without bounds.
  std::string describe() const;
};

inline Range at_least(double lowest) {
  return {.lowest = lowest};
}
inline Range above(double lowest) {
  return {.lowest = lowest, .is_lowest_allowed = false};
}
inline Range between(double lowest, double highest) {
  return {.lowest = lowest, .highest = highest};
}
/// lowest < value <= highest.
inline Range above_to(double lowest, double highest) {
  return {.lowest = lowest, .highest = highest, .is_lowest_allowed = false};
}
/// lowest <= value < highest.
inline Range from_to_below(double lowest, double highest) {
  return {.lowest = lowest, .highest = highest, .is_highest_allowed = false};
}

class Fields;

/// One key of a section, bound to the member that it fills.
struct Field {
  enum class Role {
    kValue,            ///< a value
    kSection,          ///< a section whose struct is always there
    kOptionalSection,  ///< a section that is there where it is written
    kLater,            ///< known, not built yet: any value but the harmless ones is a fault
    kRefused,          ///< known, never built: likewise
    kNoEffect,         ///< accepted with a warning
  };
  std::string name;
  std::string help;
  Role role = Role::kValue;
  std::string kind;                   ///< of a value: "whole number", "truncate, drop or error"
  std::string range;                  ///< of a number: Range::describe()
  std::string note;                   ///< kLater: what brings it; kRefused, kNoEffect: why
  std::vector<std::string> harmless;  ///< kLater, kRefused: values that ask for nothing
  bool is_required = false;
  /// What the reference page says instead of the default; empty: the default, or "required".
  std::string default_note;
  /// Of a value: what is known and not built yet. Words of an enum stand here by themselves.
  std::vector<LaterValue> later;

  std::function<void(const Node&, Problems&)> read;  ///< of a value
  std::function<Node()> write;                       ///< of a value
  /// Of a section: its fields; an optional one is made first where it is absent.
  std::function<std::unique_ptr<Fields>()> open;
  std::function<bool()> is_present;  ///< of a section
  std::function<void()> remove;      ///< of an optional section

  bool is_section() const { return role == Role::kSection || role == Role::kOptionalSection; }
};

/// The keys of one section, each listed once; `describe_fields(fields, config)` of a component fills it. Reading,
/// writing, overrides, help and the reference page all use this list. Borrows the config.
class Fields {
 public:
  /// A value.
  template <typename T>
  Field& add(std::string name, T& member, std::string help) {
    Field& field = push(std::move(name), std::move(help), Field::Role::kValue);
    field.kind = Value<T>::kind();
    field.later = later_values<T>();
    field.read = [&member](const Node& node, Problems& problems) { Value<T>::read(node, member, problems); };
    field.write = [&member] { return Value<T>::write(member); };
    return field;
  }

  /// A number (int64_t, double, or an optional of them) within bounds.
  template <typename T>
  Field& add(std::string name, T& member, std::string help, Range range) {
    Field& field = add(std::move(name), member, std::move(help));
    field.range = range.describe();
    field.read = [&member, range](const Node& node, Problems& problems) {
      T value = member;
      const size_t num_before = problems.size();
      Value<T>::read(node, value, problems);
      if (problems.size() != num_before) return;
      if (check_range(value, range, node, problems)) member = value;
    };
    return field;
  }

  /// A section whose struct is always there.
  template <typename S>
  Field& section(std::string name, S& member, std::string help) {
    Field& field = push(std::move(name), std::move(help), Field::Role::kSection);
    field.open = [&member] { return make_fields(member); };
    field.is_present = [] { return true; };
    return field;
  }

  /// A section that exists where it is written.
  template <typename S>
  Field& section(std::string name, std::optional<S>& member, std::string help) {
    Field& field = push(std::move(name), std::move(help), Field::Role::kOptionalSection);
    field.open = [&member] {
      if (!member) member.emplace();
      return make_fields(*member);
    };
    field.is_present = [&member] { return member.has_value(); };
    field.remove = [&member] { member.reset(); };
    return field;
  }

  /// A key that is known and not built yet; `harmless` values ("false", "null") are accepted.
  void later(std::string name, std::string comes_with, std::vector<std::string> harmless = {});
  /// A key that is refused by name unless its value is harmless.
  void refused(std::string name, std::string reason, std::vector<std::string> harmless);
  /// A key that is accepted and named in a warning.
  void no_effect(std::string name, std::string reason);

  const std::deque<Field>& list() const { return fields_; }
  const Field* find(std::string_view name) const;
  /// Names of the keys that can be written with an effect.
  std::vector<std::string> names() const;

 private:
  Field& push(std::string name, std::string help, Field::Role role);
  static bool check_range(double value, const Range& range, const Node& node, Problems& problems);
  template <typename T>
  static bool check_range(const std::optional<T>& value, const Range& range, const Node& node, Problems& problems) {
    return !value || check_range(static_cast<double>(*value), range, node, problems);
  }
  template <typename S>
  static std::unique_ptr<Fields> make_fields(S& config) {
    auto fields = std::make_unique<Fields>();
    describe_fields(*fields, config);
    return fields;
  }

  std::deque<Field> fields_;  // a deque: references that push gives out stay valid
};

}  // namespace dsft::config

#include "config/fields.h"

#include <cmath>
#include <utility>

#include "base/error.h"

namespace dsft::config {

bool Range::contains(double value) const {
  const bool is_above = is_lowest_allowed ? value >= lowest : value > lowest;
  const bool is_below = is_highest_allowed ? value <= highest : value < highest;
  return is_above && is_below;
}

std::string Range::describe() const {
  const auto number = [](double value) {
    return value == std::round(value) && std::abs(value) < 1e15 ? concat(static_cast<int64_t>(value)) : concat(value);
  };
  const bool has_lowest = std::isfinite(lowest);
  const bool has_highest = std::isfinite(highest);
  if (has_lowest && has_highest && is_lowest_allowed && is_highest_allowed) {
    return concat("between ", number(lowest), " and ", number(highest));
  }
  std::string text;
  if (has_lowest) text = concat(is_lowest_allowed ? "at least " : "greater than ", number(lowest));
  if (has_highest)
    text += concat(text.empty() ? "" : " and ", is_highest_allowed ? "at most " : "less than ", number(highest));
  return text;
}

Field& Fields::push(std::string name, std::string help, Field::Role role) {
  DSFT_CHECK(!find(name), "the key ", name, " is described twice");
  Field& field = fields_.emplace_back();
  field.name = std::move(name);
  field.help = std::move(help);
  field.role = role;
  return field;
}

void Fields::later(std::string name, std::string comes_with, std::vector<std::string> harmless) {
  Field& field = push(std::move(name), "", Field::Role::kLater);
  field.note = std::move(comes_with);
  field.harmless = std::move(harmless);
}

void Fields::refused(std::string name, std::string reason, std::vector<std::string> harmless) {
  Field& field = push(std::move(name), "", Field::Role::kRefused);
  field.note = std::move(reason);
  field.harmless = std::move(harmless);
}

void Fields::no_effect(std::string name, std::string reason) {
  push(std::move(name), "", Field::Role::kNoEffect).note = std::move(reason);
}

const Field* Fields::find(std::string_view name) const {
  for (const Field& field : fields_) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

std::vector<std::string> Fields::names() const {
  std::vector<std::string> names;
  for (const Field& field : fields_) {
    if (field.role == Field::Role::kValue || field.is_section()) names.push_back(field.name);
  }
  return names;
}

bool Fields::check_range(double value, const Range& range, const Node& node, Problems& problems) {
  if (range.contains(value)) return true;
  problems.push_back({node.position, concat("must be ", range.describe(), ", not ", node.text)});
  return false;
}

}  // namespace dsft::config

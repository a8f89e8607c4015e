#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace dsft::zero {

/// Which elements of a tensor a saved part holds: flat, from `first` on.
struct PartName {
  std::string tensor;
  int64_t first = 0;

  bool operator==(const PartName&) const = default;
};

/// "<tensor>@<first>".
std::string to_text(const PartName& name);

/// None where a text is no such name; tensors' own names may have an @.
std::optional<PartName> parse_part_name(const std::string& text);

}  // namespace dsft::zero

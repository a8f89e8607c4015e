#pragma once

#include <functional>
#include <string>
#include <vector>

#include "config/fields.h"
#include "config/section.h"

namespace dsft::config {

/// What reading gathers.
struct ReadingState {
  Written written;
  std::vector<Fault> faults;
  std::vector<Fault> warnings;
};

/// The message for a key that a section does not have; `path` is its full key.
using ExplainUnknown = std::function<std::string(const std::string& path, const Fields& section)>;

/// Fills the members behind `fields` from a map. `prefix`: path of the section with a dot, "" at the top. Unknown keys,
/// wrong types and values out of range become faults; written keys are noted, "" standing for the whole map.
void read_fields(const Node& map, Fields& fields, const std::string& prefix, const ExplainUnknown& explain_unknown,
                 ReadingState& state);

/// The members behind `fields` as a map; absent optional sections are left out, absent values are null.
Node write_fields(const Fields& fields);

}  // namespace dsft::config

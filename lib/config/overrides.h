#pragma once

#include <string>
#include <vector>

#include "config/node.h"

namespace dsft::config {

/// Sets "key.path=value" settings in a recipe's map, in order, the value being YAML; they replace what stands there and
/// make the sections that are missing. What cannot be read becomes a fault with the file kCommandLine.
void apply_overrides(Node& root, const std::vector<std::string>& overrides, std::vector<Fault>& faults);

}  // namespace dsft::config

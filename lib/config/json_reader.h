#pragma once

#include <string>
#include <vector>

#include "config/node.h"

namespace dsft::config {

/// Reads one JSON document as a tree with positions, within the bounds of yaml_reader.h. Comments (`//`, `#`, `/* */`)
/// are skipped, as DeepSpeed's Hjson reader does. Faults (broken JSON, an equal key twice, a bound crossed) are
/// appended; `name` stands in positions. A text that breaks off gives a null: only its fault counts then.
Node read_json(const std::string& text, const std::string& name, std::vector<Fault>& faults);

}  // namespace dsft::config

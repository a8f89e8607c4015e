#pragma once

#include <string>
#include <vector>

#include "config/node.h"

namespace dsft::config {

/// Bounds on a recipe: what crosses them is a fault, so that no input can exhaust memory or the stack.
inline constexpr size_t kMaxRecipeBytes = 1 << 20;
inline constexpr int kMaxDepth = 32;
inline constexpr size_t kMaxKeyBytes = 1 << 10;
inline constexpr int64_t kMaxNodes = 100'000;          ///< after the expansion of aliases
inline constexpr int64_t kMaxExpandedBytes = 8 << 20;  ///< of the texts that aliases stand for

/// Reads one YAML document. Faults (broken YAML, an equal key twice, a bound crossed, a second document) are appended;
/// `name` stands in positions. An empty text gives a null, and so does one that breaks off: only its fault counts then.
Node read_yaml(const std::string& text, const std::string& name, std::vector<Fault>& faults);

}  // namespace dsft::config

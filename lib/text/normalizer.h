#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "text/aligned_text.h"

namespace dsft::text {

/// Rewrites a text before it is cut into words.
using Normalizer = std::function<void(AlignedText&)>;

/// Builds the normalizer of a tokenizer.json (its "normalizer" field; null gives one that changes nothing). Knows NFC,
/// NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Replace, Prepend, Sequence; any other is a kCheckpoint error that
/// names it.
Normalizer build_normalizer(const nlohmann::json& description, const std::string& where);

}  // namespace dsft::text

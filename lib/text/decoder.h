#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace dsft::text {

/// Turns the strings of tokens into text, joined without separator; each step may change, join or drop them.
using Decoder = std::function<void(std::vector<std::string>&)>;

/// Builds the decoder of a tokenizer.json (its "decoder" field; null: tokens joined by spaces). Knows ByteLevel,
/// ByteFallback, Fuse, Strip, Replace, Metaspace and Sequence; any other is a kCheckpoint error that names it.
Decoder build_decoder(const nlohmann::json& description, const std::string& where);

}  // namespace dsft::text

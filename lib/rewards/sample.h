#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace dsft::rewards {

/// One completion to be judged.
struct Sample {
  nlohmann::ordered_json prompt;      ///< text, or a list of messages
  nlohmann::ordered_json completion;  ///< text, or [{"role": "assistant", "content": ...}] where the prompt is messages
  std::string text;                   ///< the completion decoded without special tokens
  std::string marked_text;            ///< decoded with them, for marks of tool calls that are special; empty: as text
  std::vector<int32_t> completion_ids = {};
  nlohmann::ordered_json columns;  ///< an object: the other columns of the row
};

}  // namespace dsft::rewards

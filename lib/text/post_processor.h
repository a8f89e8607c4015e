#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace dsft::text {

/// What a tokenizer puts around the ids of one text when special tokens are asked for.
struct PostProcessor {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
};

/// Builds the post-processor of a tokenizer.json (its "post_processor" field; null adds nothing). Knows
/// TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel (which only trims offsets there; here offsets
/// always name all bytes of a token) and Sequence; any other is a kCheckpoint error that names it.
PostProcessor build_post_processor(const nlohmann::json& description, const std::string& where);

}  // namespace dsft::text

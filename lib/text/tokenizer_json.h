#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"

namespace dsft::text {

/// The parts of a tokenizer.json, in the order in which a text meets them.
struct TokenizerParts {
  std::vector<AddedToken> added_tokens;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Bpe model;
  PostProcessor post_processor;
  Decoder decoder;
};

/// Reads the text of a tokenizer.json; `name` stands in messages. Throws kCheckpoint with the line or field for broken
/// JSON, missing fields, ids that are negative, huge or used twice, merges of unknown tokens, and every component that
/// is not supported. "truncation" and "padding" are not the tokenizer's business here and are not read.
TokenizerParts read_tokenizer_json(std::string_view json, const std::string& name);

}  // namespace dsft::text

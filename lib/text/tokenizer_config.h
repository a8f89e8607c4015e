#pragma once

#include <filesystem>
#include <string>

namespace dsft::text {

/// The strings of the tokens that have a role; empty where a checkpoint names none.
struct TokenRoles {
  std::string bos;
  std::string eos;
  std::string pad;
  std::string unk;
};

/// Reads the roles from DIR/tokenizer_config.json and, for those that it does not name, DIR/special_tokens_map.json;
/// both may be absent. A token is a string or an object with "content". Throws kCheckpoint for broken files.
TokenRoles read_token_roles(const std::filesystem::path& directory);

}  // namespace dsft::text

#pragma once

#include <filesystem>
#include <string>

#include "text/tokenizer.h"

namespace dsft::text {

/// Reads the tokens that have a role ("eos_token", "sep_token", "image_token", ...) from DIR/tokenizer_config.json and
/// DIR/special_tokens_map.json as transformers 5.17 does: the second is asked first in folders of before
/// added_tokens_decoder, else only for what the first does not name. Both may be absent. A token is a string or an
/// object with "content". Throws kCheckpoint for broken files.
SpecialTokenMap read_token_roles(const std::filesystem::path& directory);

/// The token of a role; empty where there is none.
std::string find_role(const SpecialTokenMap& roles, const std::string& name);

}  // namespace dsft::text

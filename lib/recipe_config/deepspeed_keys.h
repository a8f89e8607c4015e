#pragma once

#include <string>
#include <string_view>

#include "recipe_config/imported_values.h"

namespace dsft::recipe_config {

/// What happens to a key of DeepSpeed 0.19.8 that no key of the recipe stands for.
enum class KeyRole {
  kRead,      ///< an importer reads it
  kNoEffect,  ///< DeepSpeed knows it and dsft does not need it
  kRefused,   ///< its value would change what is computed: refused unless it is off
  kRemoved,   ///< DeepSpeed refuses it
};

struct DeepSpeedKey {
  std::string_view block;  ///< the block it belongs into, "" at the top
  std::string_view name;
  KeyRole role = KeyRole::kRead;
  std::string_view reason = {};
};

/// Deals with every key of a block that no importer reads: warns of those without effect, faults those that cannot be
/// had and those that DeepSpeed refuses. A key that DeepSpeed does not know is a fault where it refuses unknown keys
/// (`is_strict`), else a warning that says where it belongs.
void check_deepspeed_keys(ImportedBlock& block, std::string_view block_name, bool is_strict);

}  // namespace dsft::recipe_config

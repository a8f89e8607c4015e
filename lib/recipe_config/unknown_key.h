#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/fields.h"

namespace dsft::recipe_config {

/// What to say of a key that a section does not have: another tool's spelling, a key of another section, the nearest
/// name, or what the section has.
std::string explain_unknown_key(const std::string& path, const config::Fields& section);

/// The full keys of the recipe whose last part this is, but for those of offloading.
std::vector<std::string> find_recipe_keys(std::string_view leaf);

}  // namespace dsft::recipe_config

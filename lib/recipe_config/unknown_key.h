#pragma once

#include <string>

#include "config/fields.h"

namespace dsft::recipe_config {

/// What to say of a key that a section does not have: another tool's spelling, a key of another section, the nearest
/// name, or what the section has.
std::string explain_unknown_key(const std::string& path, const config::Fields& section);

}  // namespace dsft::recipe_config

#pragma once

#include <span>
#include <string_view>

namespace dsft::apps {

/// A ready recipe of the folder recipes/.
struct BuiltInRecipe {
  std::string_view name;  ///< "sft/smollm2_135m_function_calling"
  std::string_view text;  ///< the YAML file
};

/// All of them, by name.
std::span<const BuiltInRecipe> built_in_recipes();

}  // namespace dsft::apps

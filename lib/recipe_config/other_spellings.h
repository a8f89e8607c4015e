#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace dsft::recipe_config {

/// What a key of another fine-tuning tool is called here.
struct OtherSpelling {
  std::string_view theirs;  ///< the key, or a path such as "data.train_files"
  std::string_view tool;    ///< who writes it
  std::string_view ours;    ///< the full key here, with a value where one is implied
};

/// The entry of a key (its full path first, then its last part), or nullopt.
std::optional<OtherSpelling> find_other_spelling(std::string_view path);

}  // namespace dsft::recipe_config

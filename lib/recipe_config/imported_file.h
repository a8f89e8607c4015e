#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/node.h"

namespace dsft::recipe_config {

/// Reads a text file of at most kMaxRecipeBytes (one byte more where it is longer), or says in `problem` why not.
std::optional<std::string> read_bounded_text(const std::string& path, std::string& problem);

/// Reads a JSON or YAML file that must be a map: by its ending `.json`, or as YAML. What is wrong with it becomes a
/// fault: at `named_at`, where the recipe names it by `key`, if it cannot be read.
std::optional<config::Node> read_imported_file(std::string path, const config::Position& named_at,
                                               const std::string& key, bool is_json,
                                               std::vector<config::Fault>& faults);

}  // namespace dsft::recipe_config

#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace dsft {

/// The candidate nearest to a misspelt name by edit distance, or "" if none is near (more than a third of its letters
/// differ, at least 2).
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

/// "a, b and c".
std::string join_words(const std::vector<std::string>& words, std::string_view last_separator = " and ");

}  // namespace dsft

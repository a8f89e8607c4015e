#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace dsft::rewards {

/// Throws kData where a row's columns (data::columns_of) lack one of those that rewards compare completions with
/// (needed_columns); the message names no row.
void require_columns(const nlohmann::ordered_json& columns, const std::vector<std::string>& needed);

}  // namespace dsft::rewards

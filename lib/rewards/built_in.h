#pragma once

#include <functional>
#include <optional>
#include <string>

#include "rewards/built_in_config.h"
#include "rewards/sample.h"

namespace dsft::rewards {

/// Judges one completion: a finite number, or nothing where it does not apply (the row's column is null). Throws kData
/// with the reason where a value cannot be given (the column is missing or of a wrong kind). Safe to call from several
/// threads.
using RewardFunction = std::function<std::optional<double>(const Sample&)>;

/// The function of a row of the table. A faulty regular expression throws kUsage.
RewardFunction make_built_in(const BuiltInConfig& config);

/// What is wrong with a regular expression of the recipe, "" where nothing is: said before make_built_in meets it.
std::string find_regex_fault(const BuiltInConfig& config);

}  // namespace dsft::rewards

#pragma once

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/parse_number.h"

namespace dsft::apps {

/// Whole numbers from `least` on; CLI11's own bounds print the largest number.
inline CLI::Validator at_least(int64_t least) {
  const auto check = [least](const std::string& text) {
    const auto number = parse_number<int64_t>(text);
    if (number && *number >= least) return std::string();
    return concat("needs a whole number of at least ", least, ", not ", text);
  };
  return CLI::Validator(check, concat(">= ", least));
}

/// Numbers above 0 that are finite: CLI11's own bound takes "nan".
inline CLI::Validator positive() {
  const auto check = [](const std::string& text) {
    const auto number = parse_number<double>(text);
    if (number && std::isfinite(*number) && *number > 0) return std::string();
    return concat("needs a number above 0, not ", text);
  };
  return CLI::Validator(check, "> 0");
}

}  // namespace dsft::apps

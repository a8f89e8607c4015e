#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>

namespace dsft::apps {

/// Whole numbers from `least` on; CLI11's own bounds print the largest double.
inline CLI::Range at_least(int64_t least) {
  return CLI::Range(least, std::numeric_limits<int64_t>::max());
}

}  // namespace dsft::apps

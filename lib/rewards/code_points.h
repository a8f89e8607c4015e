#pragma once

#include <string>
#include <string_view>

#include "text/utf8.h"

namespace dsft::rewards {

/// The characters of a text; what is not UTF-8 becomes U+FFFD.
inline std::u32string to_code_points(std::string_view text) {
  const std::string valid = text::replace_invalid_utf8(text);
  std::u32string points;
  points.reserve(valid.size());
  for (size_t i = 0; i < valid.size();) {
    const text::CodePoint point = text::decode_valid_utf8(valid.data() + i);
    points += static_cast<char32_t>(point.value);
    i += point.size;
  }
  return points;
}

}  // namespace dsft::rewards

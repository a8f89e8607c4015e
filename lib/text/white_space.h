#pragma once

#include <string_view>

namespace dsft::text {

/// A text without (ASCII) white space at its ends.
inline std::string_view stripped(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\r\n\v\f";
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

}  // namespace dsft::text

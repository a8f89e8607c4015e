#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace dsft {

/// The number that a whole text is: "12" and "-3", for a floating Number "0.5" and "1e3" too. Nothing for what has
/// anything before or behind it (blanks, a plus), is no number, or does not fit.
template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace dsft

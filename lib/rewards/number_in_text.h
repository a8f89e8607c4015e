#pragma once

#include <string>
#include <string_view>

namespace dsft::rewards {

/// The last number in running text, as it is written there: 1,234.5, 3/4, 1 3/4, 2\frac{1}{3}, 3.2e5, with its sign and
/// %; "" where there is none.
std::string find_last_number(std::string_view text);

}  // namespace dsft::rewards

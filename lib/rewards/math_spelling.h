#pragma once

#include <string>
#include <string_view>

namespace dsft::rewards {

/// An answer in one spelling: surroundings ($...$, \[...\], \text{...}, \left, thin spaces, a final full stop) removed,
/// \dfrac and \tfrac as \frac, thousands separators and signs of currency and degree removed.
std::string normal_spelling(std::string_view answer);

}  // namespace dsft::rewards

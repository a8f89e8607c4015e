#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace dsft::rewards {

/// A number as an answer writes it.
struct WrittenNumber {
  double value = 0;
  bool is_percent = false;  ///< `value` is what stands before the sign
  std::string digits;       ///< of a whole number written out, sign included, without separators or leading zeros
};

/// The number that an answer in normal spelling is: digits, a fraction (`3/4`, `\frac{3}{4}`, mixed `1 3/4`), simple
/// LaTeX (+ - \times \cdot \div / ^ \sqrt \pi and brackets), with `x =` before it, and % or a unit behind it.
std::optional<WrittenNumber> read_number(std::string_view answer);

}  // namespace dsft::rewards

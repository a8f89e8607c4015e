#pragma once

#include <string_view>

namespace dsft::rewards {

/// Python's difflib.SequenceMatcher(None, a, b, autojunk).ratio() on the code points of two texts (invalid UTF-8 counts
/// as U+FFFD): 2 M / (|a| + |b|) with M the characters of all matching blocks, found longest first. Not symmetric.
/// Takes time in the product of the lengths.
double sequence_matcher_ratio(std::string_view a, std::string_view b, bool autojunk = true);

}  // namespace dsft::rewards

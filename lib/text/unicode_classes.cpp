#include "text/unicode_classes.h"

#include <vector>

namespace dsft::text {
namespace {

struct Range {
  uint32_t first;
  uint32_t last;
  uint8_t bit;
};

constexpr Range kRanges[] = {
#include "text/unicode_ranges.inc"
};

std::vector<uint8_t> make_table() {
  std::vector<uint8_t> table(0x110000);
  for (const Range& range : kRanges) {
    for (uint32_t c = range.first; c <= range.last; ++c) table[c] |= range.bit;
  }
  return table;
}

}  // namespace

const uint8_t* character_classes() {
  static const std::vector<uint8_t> table = make_table();
  return table.data();
}

}  // namespace dsft::text

#pragma once

#include <cstdint>
#include <vector>

namespace dsft::data {

/// Label of a token that is not supervised.
inline constexpr int32_t kIgnored = -100;

/// One document as the model sees it. labels[i] is ids[i] where token i is supervised (predicted from the tokens before
/// it), else kIgnored; labels[0] is always kIgnored.
struct Example {
  std::vector<int32_t> ids;
  std::vector<int32_t> labels;

  int64_t num_supervised() const {
    int64_t count = 0;
    for (int32_t label : labels) count += label != kIgnored;
    return count;
  }
};

}  // namespace dsft::data

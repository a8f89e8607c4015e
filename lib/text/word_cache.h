#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace dsft::text {

/// Ids of words seen before. A direct-mapped table of fixed size (1 MB): a newer word replaces an older one, so memory
/// is bounded whatever the text.
class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 30;
  static constexpr size_t kMaxTokens = 8;

  /// One cache line. size 0: empty.
  struct Entry {
    uint8_t size = 0;
    uint8_t num_tokens = 0;
    char word[kMaxWordBytes];
    int32_t ids[kMaxTokens];
  };

  /// The place of a word of 1 to kMaxWordBytes bytes.
  Entry& place(std::string_view word);

  static bool holds(const Entry& entry, std::string_view word) {
    return entry.size == word.size() && std::memcmp(entry.word, word.data(), word.size()) == 0;
  }

 private:
  std::vector<Entry> entries_;
};

}  // namespace dsft::text

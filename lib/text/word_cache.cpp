#include "text/word_cache.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace dsft::text {
namespace {

constexpr size_t kNumEntries = 1 << 14;

}  // namespace

WordCache::Entry& WordCache::place(std::string_view word) {
  static_assert(sizeof(Entry) == 64);
  if (entries_.empty()) entries_.resize(kNumEntries);
  return entries_[XXH3_64bits(word.data(), word.size()) & (kNumEntries - 1)];
}

}  // namespace dsft::text

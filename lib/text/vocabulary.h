#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dsft::text {

/// Token strings and ids, both ways. All strings lie in one block and the table is flat, so that 151k entries load in
/// milliseconds.
class Vocabulary {
 public:
  /// Ids from this on are refused: no tokenizer has so many tokens, and a damaged file must not allocate by them.
  static constexpr int64_t kMaxIds = 1 << 22;

  enum class Insertion { kDone, kDuplicateToken, kDuplicateId };

  /// Makes room for `count` tokens.
  void reserve(size_t count, size_t total_bytes);
  /// Adds a token; `id` must be in [0, kMaxIds). Nothing changes when the token or the id is there already.
  Insertion add(std::string_view token, int32_t id);

  std::optional<int32_t> find(std::string_view token) const;
  /// The string of an id; empty for an id without one.
  std::string_view token(int32_t id) const;
  bool has_id(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < entries_.size() && entries_[id].size != kAbsent;
  }
  /// One past the largest id.
  int32_t num_ids() const { return static_cast<int32_t>(entries_.size()); }
  size_t size() const { return count_; }

 private:
  static constexpr uint32_t kAbsent = 0xFFFFFFFF;
  struct Entry {
    uint32_t offset = 0;
    uint32_t size = kAbsent;
  };
  /// The hash stands here too, so that most lookups touch the strings only once.
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;
  };

  size_t find_slot(std::string_view token, uint32_t hash) const;
  void grow(size_t num_slots);

  std::string bytes_;
  std::vector<Entry> entries_;  // by id
  std::vector<Slot> slots_;     // open addressing; id -1: free
  size_t count_ = 0;
};

}  // namespace dsft::text

#include "text/vocabulary.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <bit>

#include "base/error.h"

namespace dsft::text {
namespace {

uint32_t hash_of(std::string_view token) {
  return static_cast<uint32_t>(XXH3_64bits(token.data(), token.size()));
}

}  // namespace

void Vocabulary::reserve(size_t count, size_t total_bytes) {
  bytes_.reserve(total_bytes);
  entries_.reserve(count);
  if (2 * count > slots_.size()) grow(std::bit_ceil(2 * count));
}

size_t Vocabulary::find_slot(std::string_view token, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash & mask;; slot = (slot + 1) & mask) {
    const auto& [slot_hash, id] = slots_[slot];
    if (id < 0) return slot;
    if (slot_hash == hash && token == std::string_view(bytes_).substr(entries_[id].offset, entries_[id].size))
      return slot;
  }
}

void Vocabulary::grow(size_t num_slots) {
  std::vector<Slot> old(num_slots);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.id >= 0) slots_[find_slot(token(slot.id), slot.hash)] = slot;
  }
}

Vocabulary::Insertion Vocabulary::add(std::string_view token, int32_t id) {
  DSFT_CHECK(id >= 0 && id < kMaxIds, "token id ", id);
  if (2 * (count_ + 1) > slots_.size()) grow(std::bit_ceil(4 * (count_ + 16)));
  const uint32_t hash = hash_of(token);
  const size_t slot = find_slot(token, hash);
  if (slots_[slot].id >= 0) return Insertion::kDuplicateToken;
  if (has_id(id)) return Insertion::kDuplicateId;
  if (static_cast<size_t>(id) >= entries_.size()) entries_.resize(id + 1);
  entries_[id] = {static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(token.size())};
  bytes_.append(token);
  slots_[slot] = {hash, id};
  ++count_;
  return Insertion::kDone;
}

std::optional<int32_t> Vocabulary::find(std::string_view token) const {
  if (slots_.empty()) return std::nullopt;
  const int32_t id = slots_[find_slot(token, hash_of(token))].id;
  return id < 0 ? std::nullopt : std::optional(id);
}

std::string_view Vocabulary::token(int32_t id) const {
  if (!has_id(id)) return {};
  return std::string_view(bytes_).substr(entries_[id].offset, entries_[id].size);
}

}  // namespace dsft::text

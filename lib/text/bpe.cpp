#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <functional>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace dsft::text {
namespace {

// up to here looking for the lowest rank one by one is faster than a heap
constexpr size_t kShortWord = 48;

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

uint64_t mix(uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15ULL;
  return pair ^ pair >> 32;
}

}  // namespace

Bpe::Bpe(BpeOptions options, Vocabulary vocabulary) : options_(options), vocabulary_(std::move(vocabulary)) {
  for (size_t byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = vocabulary_.find(byte_alphabet()[byte]).value_or(-1);
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    fallback_ids_[byte] = options_.byte_fallback ? vocabulary_.find(name).value_or(-1) : -1;
  }
  token_sizes_.resize(vocabulary_.num_ids());
  for (int32_t id = 0; id < vocabulary_.num_ids(); ++id) {
    const std::string_view token = vocabulary_.token(id);
    // in GPT-2's alphabet each character is one byte
    const auto num_characters =
        std::count_if(token.begin(), token.end(), [](char c) { return !is_utf8_continuation(c); });
    token_sizes_[id] = static_cast<uint32_t>(options_.alphabet == BpeAlphabet::kBytes ? num_characters : token.size());
  }
}

void Bpe::reserve_merges(size_t count) {
  results_.reserve(count);
  if (const size_t slots = std::bit_ceil(count + count / 2 + 16); slots > merges_.size()) grow_merges(slots);
}

size_t Bpe::find_merge(uint64_t pair) const {
  const size_t mask = merges_.size() - 1;
  for (size_t slot = mix(pair) & mask;; slot = (slot + 1) & mask) {
    if (merges_[slot].rank == kNoRank || merges_[slot].pair == pair) return slot;
  }
}

void Bpe::grow_merges(size_t num_slots) {
  std::vector<Merge> old(num_slots);
  old.swap(merges_);
  for (const Merge& merge : old) {
    if (merge.rank != kNoRank) merges_[find_merge(merge.pair)] = merge;
  }
}

Bpe::MergeFault Bpe::add_merge(std::string_view left, std::string_view right) {
  const auto left_id = vocabulary_.find(left);
  if (!left_id) return MergeFault::kLeftUnknown;
  const auto right_id = vocabulary_.find(right);
  if (!right_id) return MergeFault::kRightUnknown;
  std::string joined(left);
  joined += right;
  // trained vocabularies number the results in the order of the merges
  const int32_t guess = results_.empty() ? -1 : results_.back() + 1;
  const bool is_next = vocabulary_.has_id(guess) && vocabulary_.token(guess) == joined;
  const auto result = is_next ? std::optional(guess) : vocabulary_.find(joined);
  if (!result) return MergeFault::kResultUnknown;
  if (4 * (results_.size() + 1) > 3 * merges_.size()) grow_merges(std::bit_ceil(2 * results_.size() + 16));
  const uint64_t pair = pair_of(*left_id, *right_id);
  merges_[find_merge(pair)] = {pair, static_cast<uint32_t>(results_.size())};
  results_.push_back(*result);
  return MergeFault::kNone;
}

void Bpe::exclude_whole_word(int32_t id) {
  excluded_.push_back(id);
}

uint32_t Bpe::rank_of(int32_t left, int32_t right) const {
  return merges_.empty() ? kNoRank : merges_[find_merge(pair_of(left, right))].rank;
}

bool Bpe::encode_whole_word(std::string_view word, std::vector<Symbol>& symbols) const {
  const auto id =
      options_.alphabet == BpeAlphabet::kBytes ? vocabulary_.find(to_byte_alphabet(word)) : vocabulary_.find(word);
  if (!id || std::find(excluded_.begin(), excluded_.end(), *id) != excluded_.end()) return false;
  symbols.assign(1, {*id, static_cast<uint32_t>(word.size())});
  return true;
}

void Bpe::encode_word(std::string_view word, Workspace& workspace) const {
  auto& symbols = workspace.symbols;
  symbols.clear();
  WordCache::Entry* entry = nullptr;
  if (word.size() <= WordCache::kMaxWordBytes) {
    entry = &workspace.cache.place(word);
    if (WordCache::holds(*entry, word)) {
      for (size_t i = 0; i < entry->num_tokens; ++i) symbols.push_back({entry->ids[i], token_sizes_[entry->ids[i]]});
      return;
    }
  }
  bool is_cacheable = true;
  if (!options_.ignore_merges || !encode_whole_word(word, symbols)) {
    is_cacheable = split(word, symbols);
    if (symbols.size() <= kShortWord) {
      merge_short(workspace);
    } else {
      merge_long(workspace);
    }
  }
  if (!entry || !is_cacheable || symbols.size() > WordCache::kMaxTokens) return;
  entry->size = static_cast<uint8_t>(word.size());
  entry->num_tokens = static_cast<uint8_t>(symbols.size());
  std::copy(word.begin(), word.end(), entry->word);
  for (size_t i = 0; i < symbols.size(); ++i) entry->ids[i] = symbols[i].id;
}

/// Cuts a word into its first symbols; false if a token stands for other bytes than its own string says (unknown or
/// fallback).
bool Bpe::split(std::string_view word, std::vector<Symbol>& symbols) const {
  std::optional<Symbol> unknown;
  uint32_t dropped = 0;
  auto flush = [&] {
    if (unknown) symbols.push_back(*unknown);
    unknown.reset();
  };
  bool is_known = true;
  for (size_t i = 0, size = 0; i < word.size(); i += size) {
    size = options_.alphabet == BpeAlphabet::kBytes ? 1 : decode_valid_utf8(word.data() + i).size;
    const int32_t id = options_.alphabet == BpeAlphabet::kBytes ? byte_ids_[static_cast<unsigned char>(word[i])]
                                                                : vocabulary_.find(word.substr(i, size)).value_or(-1);
    if (id >= 0) {
      flush();
      symbols.push_back({id, static_cast<uint32_t>(size) + dropped});
      dropped = 0;
      continue;
    }
    is_known = false;
    if (!fall_back_to_bytes(word.substr(i, size), symbols)) {
      if (!options_.unk_id) {  // without an unknown token there is none for this character; a neighbour stands for its
                               // bytes too
        dropped += static_cast<uint32_t>(size);
        continue;
      }
      if (options_.fuse_unk && unknown) {
        unknown->size += static_cast<uint32_t>(size);
      } else {
        flush();
        unknown = Symbol{*options_.unk_id, static_cast<uint32_t>(size)};
      }
    }
  }
  flush();
  if (!symbols.empty()) symbols.back().size += dropped;
  return is_known;
}

bool Bpe::fall_back_to_bytes(std::string_view character, std::vector<Symbol>& symbols) const {
  auto id_of = [&](char byte) { return fallback_ids_[static_cast<unsigned char>(byte)]; };
  if (!std::all_of(character.begin(), character.end(), [&](char byte) { return id_of(byte) >= 0; })) return false;
  for (char byte : character) symbols.push_back({id_of(byte), 1});
  return true;
}

void Bpe::merge_short(Workspace& workspace) const {
  auto& symbols = workspace.symbols;
  auto& ranks = workspace.ranks;  // of the pair (i, i + 1)
  ranks.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) ranks.push_back(rank_of(symbols[i].id, symbols[i + 1].id));
  while (!ranks.empty()) {
    const auto lowest = std::min_element(ranks.begin(), ranks.end());
    if (*lowest == kNoRank) return;
    const size_t i = lowest - ranks.begin();
    symbols[i] = {results_[*lowest], symbols[i].size + symbols[i + 1].size};
    symbols.erase(symbols.begin() + i + 1);
    ranks.erase(lowest);
    if (i > 0) ranks[i - 1] = rank_of(symbols[i - 1].id, symbols[i].id);
    if (i < ranks.size()) ranks[i] = rank_of(symbols[i].id, symbols[i + 1].id);
  }
}

/// The same with a heap of (rank, position). An entry is stale when the pair at its position no longer has that rank.
void Bpe::merge_long(Workspace& workspace) const {
  auto& [cache, symbols, ranks, next, previous, heap] = workspace;
  const auto count = static_cast<int32_t>(symbols.size());
  next.resize(count);
  previous.resize(count);
  ranks.assign(count, kNoRank);  // of the pair that starts at a position
  heap.clear();
  auto update = [&, &symbols = symbols, &ranks = ranks, &next = next](int32_t i) {
    ranks[i] = next[i] < count ? rank_of(symbols[i].id, symbols[next[i]].id) : kNoRank;
    return ranks[i] != kNoRank ? static_cast<uint64_t>(ranks[i]) << 32 | static_cast<uint32_t>(i) : ~0ULL;
  };
  auto push = [&heap = heap](uint64_t item) {
    if (item == ~0ULL) return;
    heap.push_back(item);
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  for (int32_t i = 0; i < count; ++i) {
    next[i] = i + 1;
    previous[i] = i - 1;
    if (const uint64_t item = update(i); item != ~0ULL) heap.push_back(item);
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    const auto i = static_cast<int32_t>(heap.back() & 0xFFFFFFFF);
    heap.pop_back();
    if (ranks[i] != rank) continue;
    const int32_t right = next[i];
    symbols[i] = {results_[rank], symbols[i].size + symbols[right].size};
    ranks[right] = kNoRank;
    symbols[right].size = 0;
    next[i] = next[right];
    if (next[i] < count) previous[next[i]] = i;
    push(update(i));
    if (previous[i] >= 0) push(update(previous[i]));
  }
  std::erase_if(symbols, [](const Symbol& symbol) { return symbol.size == 0; });
}

}  // namespace dsft::text

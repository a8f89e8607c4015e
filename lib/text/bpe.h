#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"
#include "text/word_cache.h"

namespace dsft::text {

/// What the words are made of at first: bytes (the pre-tokenizer ends with ByteLevel) or characters.
enum class BpeAlphabet { kBytes, kCharacters };

struct BpeOptions {
  BpeAlphabet alphabet = BpeAlphabet::kBytes;
  bool ignore_merges = false;  ///< a word that is a token as it stands is that token, whatever the merges say
  bool byte_fallback = false;  ///< a character without a token becomes tokens like <0xE2>
  bool fuse_unk = false;       ///< neighbouring unknown characters become one unknown token
  std::optional<int32_t> unk_id;
};

/// A token of a word and how many of the word's bytes it stands for.
struct Symbol {
  int32_t id;
  uint32_t size;
};

/// Byte-pair encoding of one word: the adjacent pair with the lowest rank is merged (the leftmost of equals) until no
/// pair is left. Sennrich et al. 2016, as Hugging Face's tokenizers does it without dropout. Merging is O(n log n) in
/// the word's length.
class Bpe {
 public:
  Bpe(BpeOptions options, Vocabulary vocabulary);

  enum class MergeFault { kNone, kLeftUnknown, kRightUnknown, kResultUnknown };
  /// Adds the next merge (rank = number of merges before it) of two tokens.
  MergeFault add_merge(std::string_view left, std::string_view right);
  void reserve_merges(size_t count);

  /// A word that is a token may not become this one through ignore_merges: special tokens only come from their own
  /// recognition.
  void exclude_whole_word(int32_t id);

  /// The scratch memory of one encoding thread.
  struct Workspace {
    WordCache cache;
    std::vector<Symbol> symbols;
    std::vector<uint32_t> ranks;
    std::vector<int32_t> next, previous;
    std::vector<uint64_t> heap;
  };

  /// The tokens of a word, in workspace.symbols.
  void encode_word(std::string_view word, Workspace& workspace) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  static constexpr uint32_t kNoRank = 0xFFFFFFFF;
  struct Merge {
    uint64_t pair = ~0ULL;
    uint32_t rank = kNoRank;
  };

  size_t find_merge(uint64_t pair) const;
  void grow_merges(size_t num_slots);
  uint32_t rank_of(int32_t left, int32_t right) const;
  bool encode_whole_word(std::string_view word, std::vector<Symbol>& symbols) const;
  bool split(std::string_view word, std::vector<Symbol>& symbols) const;
  bool fall_back_to_bytes(std::string_view character, std::vector<Symbol>& symbols) const;
  void merge_short(Workspace& workspace) const;
  void merge_long(Workspace& workspace) const;

  BpeOptions options_;
  Vocabulary vocabulary_;
  std::array<int32_t, 256> byte_ids_;      // id of each byte's first token; -1: none
  std::array<int32_t, 256> fallback_ids_;  // id of <0x00> ... <0xFF>; -1: none
  std::vector<uint32_t> token_sizes_;      // bytes that a token stands for, by id
  std::vector<Merge> merges_;              // open addressing by pair
  std::vector<int32_t> results_;           // id that the merge of a rank makes
  std::vector<int32_t> excluded_;
};

}  // namespace dsft::text

#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/aligned_text.h"
#include "text/tokenizer.h"

namespace dsft::text {

/// A token that is recognised in the text itself, before words are made.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool single_word = false;  ///< not inside a word
  bool lstrip = false;       ///< takes the spaces before it
  bool rstrip = false;       ///< takes the spaces after it
  bool normalized = true;    ///< looked for in the normalized text
  bool special = false;
};

/// A part of a text: an added token, or text between them (token == nullptr).
struct TextPart {
  size_t begin = 0;
  size_t end = 0;
  const AddedToken* token = nullptr;
};

/// Finds added tokens in text: leftmost, and of those the longest, as Hugging Face's AddedVocabulary does by
/// Aho-Corasick.
class AddedTokenFinder {
 public:
  /// Adds a token that is looked for as `pattern`; `token` must outlive this. Of two equal patterns the first counts.
  void add(std::string_view pattern, const AddedToken* token);

  /// Cuts `text` into parts without gaps (except that an empty text has none). A special token is not recognised where
  /// its own characters come from any byte of `plain_ranges`.
  void cut(const AlignedText& text, std::span<const ByteRange> plain_ranges, std::vector<TextPart>& parts) const;

  bool empty() const { return nodes_.empty(); }

 private:
  struct Match {
    size_t end = 0;
    const AddedToken* token = nullptr;
  };
  Match match_at(const AlignedText& text, size_t begin, std::span<const ByteRange> plain_ranges) const;
  size_t find_start(std::string_view text, size_t i) const;

  struct Node {
    const AddedToken* token = nullptr;
    std::unordered_map<char, uint32_t> children;
  };
  std::vector<Node> nodes_;  // a trie; the root is nodes_[0]
  bool starts_[256] = {};    // whether a pattern begins with this byte
};

}  // namespace dsft::text

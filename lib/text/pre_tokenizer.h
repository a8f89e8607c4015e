#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/aligned_text.h"
#include "text/split_pattern.h"

namespace dsft::text {

/// A word: bytes [begin, end) of one of the texts.
struct Word {
  uint32_t text = 0;
  uint32_t begin = 0;
  uint32_t end = 0;
};

/// A text on its way from one piece to words. A step that rewrites words adds texts.
struct WordCut {
  std::deque<AlignedText> texts;
  std::vector<Word> words;
  std::vector<Word> old_words;     ///< scratch of the steps
  std::vector<PatternPart> parts;  ///< scratch of the steps

  std::string_view bytes_of(const Word& word) const {
    return texts[word.text].text().substr(word.begin, word.end - word.begin);
  }
};

/// How a tokenizer cuts text into the words that BPE works on.
struct PreTokenizer {
  std::vector<std::function<void(WordCut&)>> steps;
  bool is_byte_level = false;  ///< ends with ByteLevel: words are encoded byte by byte
};

/// Builds the pre-tokenizer of a tokenizer.json (its "pre_tokenizer" field; null: the whole text is one word). Knows
/// ByteLevel (the last step), Split, Digits, Whitespace, WhitespaceSplit, Punctuation, Metaspace and Sequence; any
/// other is a kCheckpoint error that names it.
PreTokenizer build_pre_tokenizer(const nlohmann::json& description, const std::string& where);

}  // namespace dsft::text

#pragma once

#include <cstdint>

namespace dsft::text {

/// Classes of characters that decide how text is cut, as bits of one byte per code point. They are those of Hugging
/// Face's tokenizers (unicode_ranges.inc), so that ids do not depend on the Unicode version of a system library.
enum CharacterClass : uint8_t {
  kLetter = 1,         ///< \p{L}
  kNumber = 2,         ///< \p{N} of regular expressions
  kMark = 4,           ///< \p{M}
  kPunctuation = 8,    ///< \p{P}
  kSpace = 16,         ///< \s, White_Space
  kWord = 32,          ///< \w
  kNfcSensitive = 64,  ///< NFC may change it or join it to the character before
  kNumeric = 128,      ///< what the pre-tokenizer Digits calls a digit
};

/// The table: one byte of CharacterClass bits for each of the 0x110000 code points; made at the first call.
const uint8_t* character_classes();

}  // namespace dsft::text

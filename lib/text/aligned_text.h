#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace dsft::text {

/// A part of the input text, perhaps rewritten by a normalizer, that knows for each of its bytes the bytes of the input
/// it came from. A part that was not rewritten is a view and costs nothing.
class AlignedText {
 public:
  /// The bytes of `input` in `range`, untouched; `input` must outlive this.
  AlignedText(std::string_view input, ByteRange range)
      : view_(input.substr(range.begin, range.end - range.begin)), base_(range.begin) {}

  /// A rewritten text; `sources` has one range of the input for each byte of `text`.
  AlignedText(std::string text, std::vector<ByteRange> sources)
      : text_(std::move(text)), sources_(std::move(sources)), is_rewritten_(true) {}

  std::string_view text() const { return is_rewritten_ ? std::string_view(text_) : view_; }

  /// The bytes of the input that the non-empty range [begin, end) of text() came from.
  ByteRange source(size_t begin, size_t end) const {
    if (!is_rewritten_) return {base_ + begin, base_ + end};
    // canonical reordering of accents may put a later source first
    return {sources_[begin].begin, std::max(sources_[begin].begin, sources_[end - 1].end)};
  }

 private:
  std::string_view view_;
  size_t base_ = 0;
  std::string text_;
  std::vector<ByteRange> sources_;
  bool is_rewritten_ = false;
};

/// A sequence of normalizers or decoders may make a text so many times longer: each doubling it would exhaust memory.
inline constexpr size_t kMaxRewrittenRatio = 64;
inline size_t longest_rewritten(size_t size) {
  return kMaxRewrittenRatio * (size + 1024);
}

/// Writes the successor of an AlignedText piece by piece.
class AlignedTextBuilder {
 public:
  explicit AlignedTextBuilder(const AlignedText& old) : old_(old) {}

  /// Copies [begin, end) of the old text.
  void keep(size_t begin, size_t end) {
    text_.append(old_.text().substr(begin, end - begin));
    for (size_t i = begin; i < end; ++i) sources_.push_back(old_.source(i, i + 1));
  }
  /// Adds new text that stands for these bytes of the input.
  void put(std::string_view text, ByteRange source) {
    text_.append(text);
    sources_.insert(sources_.end(), text.size(), source);
  }
  AlignedText finish() { return AlignedText(std::move(text_), std::move(sources_)); }

 private:
  const AlignedText& old_;
  std::string text_;
  std::vector<ByteRange> sources_;
};

}  // namespace dsft::text

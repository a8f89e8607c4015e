#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace dsft::text {
namespace {

bool is_class_at(std::string_view text, size_t i, uint8_t mask) {
  return character_classes()[decode_valid_utf8(text.data() + i).value] & mask;
}

bool is_alone(std::string_view text, size_t begin, size_t end) {
  const bool after_word = begin > 0 && is_class_at(text, last_character(text.substr(0, begin)), kWord);
  const bool before_word = end < text.size() && is_class_at(text, end, kWord);
  return !after_word && !before_word;
}

size_t skip_spaces_back(std::string_view text, size_t begin) {
  while (begin > 0) {
    const size_t last = last_character(text.substr(0, begin));
    if (!is_class_at(text, last, kSpace)) break;
    begin = last;
  }
  return begin;
}

size_t skip_spaces(std::string_view text, size_t end) {
  while (end < text.size() && is_class_at(text, end, kSpace)) end += decode_valid_utf8(text.data() + end).size;
  return end;
}

bool overlaps(std::span<const ByteRange> ranges, ByteRange match) {
  auto range =
      std::partition_point(ranges.begin(), ranges.end(), [&](const ByteRange& r) { return r.end <= match.begin; });
  return range != ranges.end() && range->begin < match.end;
}

}  // namespace

void AddedTokenFinder::add(std::string_view pattern, const AddedToken* token) {
  if (pattern.empty()) return;
  if (nodes_.empty()) nodes_.emplace_back();
  starts_[static_cast<unsigned char>(pattern[0])] = true;
  uint32_t node = 0;
  for (char c : pattern) {
    auto [child, is_new] = nodes_[node].children.try_emplace(c, static_cast<uint32_t>(nodes_.size()));
    node = child->second;
    if (is_new) nodes_.emplace_back();
  }
  if (!nodes_[node].token) nodes_[node].token = token;
}

size_t AddedTokenFinder::find_start(std::string_view text, size_t i) const {
  while (i < text.size() && !starts_[static_cast<unsigned char>(text[i])]) ++i;
  return i;
}

AddedTokenFinder::Match AddedTokenFinder::match_at(const AlignedText& text, size_t begin,
                                                   std::span<const ByteRange> plain_ranges) const {
  Match longest;
  uint32_t node = 0;
  for (size_t i = begin; i < text.text().size(); ++i) {
    auto child = nodes_[node].children.find(text.text()[i]);
    if (child == nodes_[node].children.end()) break;
    node = child->second;
    const AddedToken* token = nodes_[node].token;
    if (token && !(token->special && overlaps(plain_ranges, text.source(begin, i + 1)))) longest = {i + 1, token};
  }
  return longest;
}

void AddedTokenFinder::cut(const AlignedText& aligned, std::span<const ByteRange> plain_ranges,
                           std::vector<TextPart>& parts) const {
  const std::string_view text = aligned.text();
  size_t done = 0;
  for (size_t i = nodes_.empty() ? text.size() : find_start(text, 0); i < text.size(); i = find_start(text, i)) {
    const Match match = match_at(aligned, i, plain_ranges);
    if (!match.token) {
      ++i;
      continue;
    }
    size_t begin = i;
    size_t end = match.end;
    i = match.end;
    if (match.token->single_word && !is_alone(text, begin, end)) continue;
    if (match.token->lstrip) begin = std::max(skip_spaces_back(text, begin), done);
    if (match.token->rstrip) end = skip_spaces(text, end);
    if (done < begin) parts.push_back({done, begin, nullptr});
    parts.push_back({begin, end, match.token});
    done = end;
  }
  if (done < text.size()) parts.push_back({done, text.size(), nullptr});
}

}  // namespace dsft::text

#include "text/split_pattern.h"

#include <algorithm>

#include "base/error.h"

namespace dsft::text {
namespace {

void merge_with_previous(std::vector<PatternPart>& parts) {
  std::vector<PatternPart> merged;
  bool was_match = false;
  for (const PatternPart& part : parts) {
    if (part.is_match && !was_match && !merged.empty()) {
      merged.back().end = part.end;
    } else {
      merged.push_back(part);
    }
    was_match = part.is_match;
  }
  parts = std::move(merged);
}

void merge_with_next(std::vector<PatternPart>& parts) {
  std::vector<PatternPart> merged;  // from right to left
  bool was_match = false;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (part->is_match && !was_match && !merged.empty()) {
      merged.back().begin = part->begin;
    } else {
      merged.push_back(*part);
    }
    was_match = part->is_match;
  }
  parts.assign(merged.rbegin(), merged.rend());
}

void merge_equals(std::vector<PatternPart>& parts) {
  std::vector<PatternPart> merged;
  for (const PatternPart& part : parts) {
    if (!merged.empty() && merged.back().is_match == part.is_match) {
      merged.back().end = part.end;
    } else {
      merged.push_back(part);
    }
  }
  parts = std::move(merged);
}

}  // namespace

SplitBehavior parse_split_behavior(const std::string& name, const std::string& where) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  fail(ErrorKind::kCheckpoint, where, ": the split behavior \"", name,
       "\" is not known; known are Removed, Isolated, MergedWithPrevious, MergedWithNext and Contiguous");
}

void apply_behavior(SplitBehavior behavior, std::vector<PatternPart>& parts) {
  switch (behavior) {
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kRemoved:
      std::erase_if(parts, [](const PatternPart& part) { return part.is_match; });
      break;
    case SplitBehavior::kMergedWithPrevious:
      merge_with_previous(parts);
      break;
    case SplitBehavior::kMergedWithNext:
      merge_with_next(parts);
      break;
    case SplitBehavior::kContiguous:
      merge_equals(parts);
      break;
  }
}

SplitPattern::SplitPattern(const std::string& expression, const std::string& where)
    : known_(find_known_pattern(expression)) {
  if (!known_) regex_.emplace(expression, where);
}

void SplitPattern::find_parts(std::string_view text, std::vector<PatternPart>& parts) const {
  if (known_) {
    for (size_t i = 0; i < text.size();) {
      const size_t end = next_known_match(*known_, text, i);
      parts.push_back({static_cast<uint32_t>(i), static_cast<uint32_t>(end), true});
      i = end;
    }
    return;
  }
  uint32_t done = 0;
  regex_->for_each_match(text, [&](size_t begin, size_t end) {
    if (done < begin) parts.push_back({done, static_cast<uint32_t>(begin), false});
    parts.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), true});
    done = static_cast<uint32_t>(end);
  });
  if (done < text.size()) parts.push_back({done, static_cast<uint32_t>(text.size()), false});
}

}  // namespace dsft::text

#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/known_patterns.h"
#include "text/regex.h"

namespace dsft::text {

/// A part of a text: what a pattern matched, or what lies between two matches.
struct PatternPart {
  uint32_t begin = 0;
  uint32_t end = 0;
  bool is_match = false;
};

/// What becomes of matches when a text is split, as Hugging Face's SplitDelimiterBehavior names it.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

SplitBehavior parse_split_behavior(const std::string& name, const std::string& where);

/// Applies a behaviour in place: the parts that remain, in order (their is_match means nothing any more).
void apply_behavior(SplitBehavior behavior, std::vector<PatternPart>& parts);

/// A splitting expression; hand-written matchers for those of the known families, PCRE2 for others.
class SplitPattern {
 public:
  SplitPattern(const std::string& expression, const std::string& where);

  /// Cuts a text into matches and what is between them, without gaps or empty parts between matches.
  void find_parts(std::string_view text, std::vector<PatternPart>& parts) const;

 private:
  std::optional<KnownPattern> known_;
  std::optional<Regex> regex_;
};

}  // namespace dsft::text

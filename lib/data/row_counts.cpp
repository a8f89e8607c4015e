#include <cstdio>

#include "data/token_cache.h"

namespace dsft::data {

namespace {

/// 1234567 as "1,234,567".
std::string with_commas(int64_t number) {
  std::string text = std::to_string(number);
  for (int64_t i = static_cast<int64_t>(text.size()) - 3; i > 0; i -= 3) text.insert(static_cast<size_t>(i), ",");
  return text;
}

}  // namespace

RowCounts& RowCounts::operator+=(const RowCounts& other) {
  read += other.read;
  kept += other.kept;
  dropped_unsupervised += other.dropped_unsupervised;
  dropped_overlong += other.dropped_overlong;
  dropped_after_truncation += other.dropped_after_truncation;
  truncated += other.truncated;
  tokens += other.tokens;
  supervised_tokens += other.supervised_tokens;
  without_eos += other.without_eos;
  return *this;
}

std::string describe(const RowCounts& counts) {
  std::string text = with_commas(counts.read) + " rows read, " + with_commas(counts.kept) + " kept";
  std::string reasons;
  const auto add_reason = [&reasons](int64_t count, const char* reason) {
    if (count > 0) reasons += (reasons.empty() ? "" : ", ") + with_commas(count) + reason;
  };
  add_reason(counts.dropped_unsupervised, " without a supervised token");
  add_reason(counts.dropped_overlong, " longer than max_length");
  add_reason(counts.dropped_after_truncation, " without a supervised token after the cut to max_length");
  if (!reasons.empty()) text += ", " + with_commas(counts.read - counts.kept) + " dropped (" + reasons + ")";
  if (counts.truncated > 0) text += ", " + with_commas(counts.truncated) + " cut to max_length";
  char share[32];
  std::snprintf(share, sizeof share, "%.1f",
                counts.tokens > 0
                    ? 100.0 * static_cast<double>(counts.supervised_tokens) / static_cast<double>(counts.tokens)
                    : 0.0);
  return text + "; " + with_commas(counts.tokens) + " tokens, " + share + " % supervised";
}

}  // namespace dsft::data

#include "rewards/similarity.h"

#include <unordered_map>
#include <vector>

#include "rewards/code_points.h"

namespace dsft::rewards {
namespace {

/// One half-open range of each text.
struct Ranges {
  size_t a_begin, a_end, b_begin, b_end;
};

struct Match {
  size_t a, b, size;
};

/// The parts of difflib that a ratio needs, by its rules.
class SequenceMatcher {
 public:
  SequenceMatcher(std::u32string a, std::u32string b, bool autojunk)
      : a_(std::move(a)), b_(std::move(b)), lengths_(b_.size() + 1), next_lengths_(b_.size() + 1) {
    for (size_t j = 0; j < b_.size(); ++j) places_[b_[j]].push_back(j);
    constexpr size_t kFewestForJunk = 200;
    if (!autojunk || b_.size() < kFewestForJunk) return;
    const size_t most = b_.size() / 100 + 1;
    std::erase_if(places_, [&](const auto& entry) { return entry.second.size() > most; });
  }

  double ratio() {
    const size_t length = a_.size() + b_.size();
    if (length == 0) return 1;
    size_t num_matching = 0;
    std::vector<Ranges> waiting{{0, a_.size(), 0, b_.size()}};
    while (!waiting.empty()) {
      const Ranges ranges = waiting.back();
      waiting.pop_back();
      const Match match = find_longest(ranges);
      if (match.size == 0) continue;
      num_matching += match.size;
      if (ranges.a_begin < match.a && ranges.b_begin < match.b)
        waiting.push_back({ranges.a_begin, match.a, ranges.b_begin, match.b});
      if (match.a + match.size < ranges.a_end && match.b + match.size < ranges.b_end)
        waiting.push_back({match.a + match.size, ranges.a_end, match.b + match.size, ranges.b_end});
    }
    return 2.0 * static_cast<double>(num_matching) / static_cast<double>(length);
  }

 private:
  /// The longest block that starts with no popular character, earliest in a, then in b; then stretched over popular
  /// ones.
  Match find_longest(const Ranges& ranges) {
    Match best{ranges.a_begin, ranges.b_begin, 0};
    std::vector<size_t> written, written_next;  // of lengths_, whose other entries are 0
    for (size_t i = ranges.a_begin; i < ranges.a_end; ++i) {
      const auto places = places_.find(a_[i]);
      if (places != places_.end()) {
        for (const size_t j : places->second) {
          if (j < ranges.b_begin) continue;
          if (j >= ranges.b_end) break;
          // lengths_[j] is of the block that ends at (i - 1, j - 1)
          const size_t length = lengths_[j] + 1;
          next_lengths_[j + 1] = length;
          written_next.push_back(j + 1);
          if (length > best.size) best = {i + 1 - length, j + 1 - length, length};
        }
      }
      for (const size_t j : written) lengths_[j] = 0;
      written.clear();
      std::swap(lengths_, next_lengths_);
      std::swap(written, written_next);
    }
    for (const size_t j : written) lengths_[j] = 0;
    while (best.a > ranges.a_begin && best.b > ranges.b_begin && a_[best.a - 1] == b_[best.b - 1])
      best = {best.a - 1, best.b - 1, best.size + 1};
    while (best.a + best.size < ranges.a_end && best.b + best.size < ranges.b_end &&
           a_[best.a + best.size] == b_[best.b + best.size]) {
      ++best.size;
    }
    return best;
  }

  std::u32string a_, b_;
  std::unordered_map<char32_t, std::vector<size_t>> places_;  // of the characters of b, without popular ones
  std::vector<size_t> lengths_, next_lengths_;
};

}  // namespace

double sequence_matcher_ratio(std::string_view a, std::string_view b, bool autojunk) {
  return SequenceMatcher(to_code_points(a), to_code_points(b), autojunk).ratio();
}

}  // namespace dsft::rewards

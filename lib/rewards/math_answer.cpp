#include "rewards/math_answer.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "rewards/math_expression.h"
#include "rewards/math_spelling.h"
#include "rewards/number_in_text.h"

namespace dsft::rewards {
namespace {

constexpr size_t kLongestAnswer = 4096;  // a page of text is no answer, and would take long to read as one

/// The content of the complete \boxed{} that opens last.
std::optional<std::string> last_boxed(std::string_view text) {
  constexpr std::string_view kCommand = "\\boxed";
  struct Open {
    size_t at;
    bool is_boxed;
  };
  std::vector<Open> open;
  std::optional<std::pair<size_t, size_t>> last;  // braces
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '{') open.push_back({i, text.substr(0, i).ends_with(kCommand)});
    if (text[i] != '}' || open.empty()) continue;
    if (open.back().is_boxed && (!last || open.back().at > last->first)) last = {open.back().at, i};
    open.pop_back();
  }
  if (!last) return std::nullopt;
  return std::string(text.substr(last->first + 1, last->second - last->first - 1));
}

std::optional<std::string> last_tagged(std::string_view text) {
  constexpr std::string_view kOpen = "<answer>", kClose = "</answer>";
  const size_t close = text.rfind(kClose);
  const size_t open = close == std::string_view::npos ? close : text.substr(0, close).rfind(kOpen);
  if (open == std::string_view::npos) return std::nullopt;
  return std::string(text.substr(open + kOpen.size(), close - open - kOpen.size()));
}

std::optional<std::string> after_hashes(std::string_view text) {
  constexpr std::string_view kMark = "####";
  const size_t at = text.rfind(kMark);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = text.substr(at + kMark.size());
  const std::string_view line = rest.substr(0, rest.find('\n'));
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) return std::nullopt;
  return std::string(line);
}

/// Text for comparison: no spaces, no case.
std::string comparable(std::string_view spelt) {
  std::string text;
  for (const char c : spelt) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') continue;
    text += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return text;
}

struct Pair {
  double p = 0, g = 0;
};

/// Two numbers as they can be compared: where one alone has a percent sign, with what stands before it and as its
/// hundredth.
std::vector<Pair> readings(const WrittenNumber& p, const WrittenNumber& g) {
  std::vector<Pair> pairs = {{p.value, g.value}};
  if (p.is_percent && !g.is_percent) pairs.push_back({p.value / 100, g.value});
  if (g.is_percent && !p.is_percent) pairs.push_back({p.value, g.value / 100});
  return pairs;
}

bool are_equal(const WrittenNumber& p, const WrittenNumber& g, double tolerance) {
  constexpr size_t kExactDigits = 15;  // a double holds them all
  if (p.digits.size() > kExactDigits && g.digits.size() > kExactDigits) return p.digits == g.digits;
  const std::vector<Pair> pairs = readings(p, g);
  return std::any_of(pairs.begin(), pairs.end(),
                     [&](const Pair& pair) { return std::abs(pair.p - pair.g) <= tolerance; });
}

/// max(0, 1 - |p - g| / |g|), of the nearer reading.
double partial_credit(const WrittenNumber& p, const WrittenNumber& g) {
  double most = 0;
  for (const Pair& pair : readings(p, g))
    if (pair.g != 0) most = std::max(most, 1 - std::abs(pair.p - pair.g) / std::abs(pair.g));
  return most;
}

/// An answer in normal spelling as it is compared with a number: "It costs 5 dollars" is 5.
std::string beside_number(std::string answer) {
  if (read_number(answer) || answer.find(' ') == std::string::npos) return answer;
  return normal_spelling(find_last_number(answer));
}

}  // namespace

std::optional<std::string> find_marked_answer(std::string_view text) {
  if (auto boxed = last_boxed(text)) return boxed;
  if (auto tagged = last_tagged(text)) return tagged;
  return after_hashes(text);
}

std::optional<std::string> find_math_answer(std::string_view completion) {
  const auto marked = find_marked_answer(completion);
  if (marked && marked->size() > kLongestAnswer) return std::nullopt;
  std::string answer = normal_spelling(marked ? *marked : find_last_number(completion));
  if (answer.empty()) return std::nullopt;
  return answer;
}

bool are_same_math_answer(const std::string& a, const std::string& b, double tolerance) {
  const bool has_number = read_number(a) || read_number(b);
  const std::string p = has_number ? beside_number(a) : a, g = has_number ? beside_number(b) : b;
  const std::optional<WrittenNumber> p_value = read_number(p), g_value = read_number(g);
  if (!p_value || !g_value) return !p.empty() && comparable(p) == comparable(g);
  return are_equal(*p_value, *g_value, tolerance);
}

double score_math_answer(std::string_view completion, std::string_view right_answer, const MathAnswerConfig& config) {
  const std::string right = normal_spelling(find_marked_answer(right_answer).value_or(std::string(right_answer)));
  std::optional<WrittenNumber> g = read_number(right);
  std::string answer;
  if (const auto marked = find_marked_answer(completion)) {
    if (marked->size() > kLongestAnswer) return 0;
    answer = normal_spelling(*marked);
    if (g) answer = beside_number(std::move(answer));
  } else {
    answer = normal_spelling(g ? find_last_number(completion) : completion);
  }
  if (answer.empty()) return 0;
  const std::optional<WrittenNumber> p = read_number(answer);
  if (!p || !g) return comparable(answer) == comparable(right) ? 1 : 0;
  if (are_equal(*p, *g, config.tolerance)) return 1;
  return config.partial ? partial_credit(*p, *g) : 0;
}

}  // namespace dsft::rewards

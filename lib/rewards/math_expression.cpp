#include "rewards/math_expression.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numbers>

#include "base/parse_number.h"
#include "rewards/math_characters.h"
#include "text/white_space.h"

namespace dsft::rewards {
namespace {

using text::stripped;

constexpr int kMaxDepth = 64;

/// A recursive-descent reader of simple LaTeX arithmetic; `at` stays before what it cannot read.
class ExpressionReader {
 public:
  explicit ExpressionReader(std::string_view text) : text_(text) {}

  std::optional<double> read_sum() {
    if (++depth_ > kMaxDepth) return std::nullopt;
    std::optional<double> sum = read_product();
    while (sum && is_finite(*sum)) {
      const size_t before = at_;
      const bool is_plus = take("+"), is_minus = !is_plus && take("-");
      if (!is_plus && !is_minus) break;
      const std::optional<double> next = read_product();
      if (!next) {
        at_ = before;
        break;
      }
      *sum += is_plus ? *next : -*next;
    }
    --depth_;
    return sum;
  }

  std::string_view rest() {
    skip_spaces();
    return text_.substr(at_);
  }

 private:
  static bool is_finite(double value) { return std::isfinite(value); }

  void skip_spaces() {
    while (at_ < text_.size() && (std::isspace(static_cast<unsigned char>(text_[at_])) || text_[at_] == '~')) ++at_;
  }

  bool take(std::string_view word) {
    skip_spaces();
    if (text_.substr(at_, word.size()) != word) return false;
    // a command ends where its letters end
    const size_t end = at_ + word.size();
    if (word.size() > 1 && word[0] == '\\' && is_letter(word.back()) && end < text_.size() && is_letter(text_[end]))
      return false;
    at_ = end;
    return true;
  }

  std::optional<double> read_product() {
    double sign = 1;
    while (take("-")) sign = -sign;
    take("+");
    std::optional<double> product = read_power();
    while (product) {
      const size_t before = at_;
      const bool divides = take("/") || take("\\div"),
                 multiplies = !divides && (take("\\times") || take("\\cdot") || take("*"));
      const bool is_mixed = !divides && !multiplies && starts_fraction_of_mixed();
      if (!divides && !multiplies && !is_mixed && !starts_factor()) break;
      const std::optional<double> next = is_mixed ? read_small_fraction() : read_power();
      if (!next) {
        at_ = before;
        break;
      }
      if (is_mixed) {
        *product += *next;
      } else {
        *product = divides ? *product / *next : *product * *next;
      }
    }
    return product ? std::optional(sign * *product) : std::nullopt;
  }

  /// After a whole number written out, a fraction of whole numbers adds: 1 3/4, 2\frac{1}{3}.
  bool starts_fraction_of_mixed() {
    skip_spaces();
    if (!whole_end_ || !stripped(text_.substr(*whole_end_, at_ - *whole_end_)).empty()) return false;
    if (text_.substr(at_).starts_with("\\frac")) return true;
    if (at_ == *whole_end_) return false;
    const size_t end = skip_digits(text_, at_);
    return end > at_ && end + 1 < text_.size() && text_[end] == '/' && is_digit(text_[end + 1]);
  }

  std::optional<double> read_small_fraction() {
    const std::optional<double> above = read_atom();
    if (!take("/")) return above;  // it was a \frac
    const std::optional<double> below = read_atom();
    return above && below ? std::optional(*above / *below) : std::nullopt;
  }

  /// What may follow a factor without a sign between them: 2\sqrt{3}, 3(4), 2\pi.
  bool starts_factor() {
    const std::string_view next = rest();
    return next.starts_with("\\sqrt") || next.starts_with("\\pi") || next.starts_with("\\frac") ||
           next.starts_with("(") || next.starts_with("{") || next.starts_with("π") || next.starts_with("√");
  }

  std::optional<double> read_power() {
    std::optional<double> base = read_atom();
    if (!base || !take("^")) return base;
    const bool is_negative = take("-");
    const std::optional<double> exponent = read_argument();
    whole_end_.reset();
    if (!exponent) return std::nullopt;
    return std::pow(*base, is_negative ? -*exponent : *exponent);
  }

  /// {sum}, or one character or number, as LaTeX takes arguments.
  std::optional<double> read_argument(bool takes_one_digit = false) {
    skip_spaces();
    if (takes_one_digit && at_ < text_.size() && is_digit(text_[at_])) return text_[at_++] - '0';
    return read_atom();
  }

  std::optional<double> read_bracketed(std::string_view close) {
    const std::optional<double> inner = read_sum();
    return inner && take(close) ? inner : std::nullopt;
  }

  std::optional<double> read_atom() {
    if (++depth_ > kMaxDepth) return std::nullopt;
    const std::optional<double> value = read_atom_inside();
    --depth_;
    return value;
  }

  std::optional<double> read_atom_inside() {
    whole_end_.reset();
    if (take("(")) return read_bracketed(")");
    if (take("{")) return read_bracketed("}");
    if (take("\\frac")) {
      const auto above = read_argument(true), below = above ? read_argument(true) : std::nullopt;
      whole_end_.reset();
      return below ? std::optional(*above / *below) : std::nullopt;
    }
    if (take("\\sqrt") || take("√")) {
      std::optional<double> root = 2;
      if (take("[")) root = read_bracketed("]");
      const auto inside = root ? read_argument(true) : std::nullopt;
      whole_end_.reset();
      if (!inside) return std::nullopt;
      return *root == 2 ? std::sqrt(*inside) : std::pow(*inside, 1 / *root);
    }
    if (take("\\pi") || take("π")) return std::numbers::pi;
    return read_decimal();
  }

  std::optional<double> read_decimal() {
    skip_spaces();
    size_t end = skip_digits(text_, at_);
    const size_t num_whole = end - at_;
    bool is_whole = num_whole > 0;
    if (end + 1 < text_.size() && text_[end] == '.' && is_digit(text_[end + 1])) {
      is_whole = false;
      end = skip_digits(text_, end + 1);
    } else if (num_whole == 0) {
      return std::nullopt;
    } else if (end < text_.size() && text_[end] == '.') {
      is_whole = false;
    }
    std::string digits(text_.substr(at_, end - at_));
    at_ = end;
    if (!is_whole && at_ < text_.size() && text_[at_] == '.') ++at_;  // "5."
    if (const size_t end_of_exponent = skip_exponent(text_, at_); end_of_exponent > at_) {
      const size_t sign = text_[at_ + 1] == '+' ? 1 : 0;  // which parse_number does not take
      digits += 'e';
      digits += text_.substr(at_ + 1 + sign, end_of_exponent - at_ - 1 - sign);
      at_ = end_of_exponent;
      is_whole = false;
    }
    if (is_whole) whole_end_ = at_;
    if (digits.starts_with('.')) digits = "0" + digits;
    return parse_number<double>(digits);
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  std::optional<size_t> whole_end_;  // of the last value, where that was a whole number written out
};

/// `x =` or `The answer is x =` before a value; only the last equation counts.
std::string_view without_left_side(std::string_view text) {
  const size_t equals = text.rfind('=');
  if (equals == std::string_view::npos) return text;
  return stripped(text.substr(equals + 1));
}

/// A unit, as "apples" or "cm^2" or "km/h": a word of two letters or more is in it (5x is no number), and no digit but
/// those of a power.
bool is_unit(std::string_view rest) {
  size_t longest = 0, run = 0;
  for (size_t i = 0; i < rest.size(); ++i) {
    const char c = rest[i];
    run = is_letter(c) || static_cast<unsigned char>(c) >= 0x80 ? run + 1 : 0;
    longest = std::max(longest, run);
    if (run > 0 || c == ' ' || c == '/' || c == '.' || c == '-') continue;
    const bool is_power = c == '^' && i + 1 < rest.size() && (is_digit(rest[i + 1]) || rest[i + 1] == '{');
    const bool ends_power = (is_digit(c) || c == '{' || c == '}') && i > 0 &&
                            (rest[i - 1] == '^' || rest[i - 1] == '{' || is_digit(rest[i - 1]));
    if (!is_power && !ends_power) return false;
  }
  return longest >= 2;
}

std::string plain_digits(std::string_view text) {
  const bool is_negative = text.starts_with('-');
  if (is_negative) text.remove_prefix(1);
  if (text.empty() || !std::all_of(text.begin(), text.end(), is_digit)) return "";
  const size_t first = std::min(text.find_first_not_of('0'), text.size() - 1);
  const std::string digits(text.substr(first));
  return is_negative && digits != "0" ? "-" + digits : digits;
}

}  // namespace

std::optional<WrittenNumber> read_number(std::string_view answer) {
  const std::string_view text = without_left_side(stripped(answer));
  ExpressionReader reader(text);
  const std::optional<double> value = reader.read_sum();
  if (!value || !std::isfinite(*value)) return std::nullopt;
  std::string_view rest = reader.rest();
  const bool is_percent = rest.starts_with('%');
  if (is_percent) rest = stripped(rest.substr(1));
  if (!rest.empty() && !is_unit(rest)) return std::nullopt;
  return WrittenNumber{*value, is_percent || rest == "percent", rest.empty() && !is_percent ? plain_digits(text) : ""};
}

}  // namespace dsft::rewards

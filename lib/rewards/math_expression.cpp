#include "rewards/math_expression.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numbers>

#include "base/parse_number.h"
#include "text/white_space.h"

namespace dsft::rewards {
namespace {

using text::stripped;

constexpr int kMaxDepth = 64;
constexpr size_t kLongestFraction = 200;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

/// Where the bracket that opens at `open` closes, or npos.
size_t closing_brace(std::string_view text, size_t open) {
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    if (text[i] == '{') ++depth;
    if (text[i] == '}' && --depth == 0) return i;
  }
  return std::string_view::npos;
}

/// \text{x} -> " x ", for the commands that only change the type.
void unwrap_commands(std::string& text) {
  for (const std::string_view command : {"\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{", "\\mbox{", "\\boldsymbol{",
                                         "\\operatorname{", "\\fbox{", "\\boxed{"}) {
    for (size_t at = text.find(command); at != std::string::npos; at = text.find(command, at)) {
      const size_t end = closing_brace(text, at + command.size() - 1);
      if (end == std::string::npos) break;
      text[end] = ' ';
      text.replace(at, command.size(), " ");
    }
  }
}

/// How many characters of "1,234,567" belong to a number whose first digits end at `at`: groups of exactly three.
size_t length_of_groups(std::string_view text, size_t at) {
  size_t end = at;
  while (end + 3 < text.size() && text[end] == ',' && is_digit(text[end + 1]) && is_digit(text[end + 2]) &&
         is_digit(text[end + 3]) && (end + 4 >= text.size() || !is_digit(text[end + 4]))) {
    end += 4;
  }
  return end - at;
}

void join_thousands(std::string& text) {
  for (size_t i = 0; i < text.size();) {
    if (!is_digit(text[i])) {
      ++i;
      continue;
    }
    const size_t begin = i;
    while (i < text.size() && is_digit(text[i])) ++i;
    if (i - begin > 3 || (begin > 0 && text[begin - 1] == '.')) continue;
    const size_t length = length_of_groups(text, i);
    const auto first = text.begin() + static_cast<std::ptrdiff_t>(i);
    text.erase(std::remove(first, first + static_cast<std::ptrdiff_t>(length), ','),
               first + static_cast<std::ptrdiff_t>(length));
    i += length / 4 * 3;
  }
}

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
    if (take("-")) {
      const auto value = read_product();
      return value ? std::optional(-*value) : std::nullopt;
    }
    take("+");
    std::optional<double> product = read_power();
    while (product) {
      const size_t before = at_;
      const bool divides = take("/") || take("\\div"),
                 multiplies = !divides && (take("\\times") || take("\\cdot") || take("*"));
      const bool is_mixed = !divides && !multiplies && starts_fraction_of_mixed(before);
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
    return product;
  }

  /// After a whole number written out, a fraction of whole numbers adds: 1 3/4, 2\frac{1}{3}.
  bool starts_fraction_of_mixed(size_t number_end) {
    if (number_end == 0 || !is_digit(text_[number_end - 1]) || !last_was_whole_) return false;
    skip_spaces();
    if (text_.substr(at_).starts_with("\\frac")) return true;
    if (at_ == number_end) return false;
    size_t end = at_;
    while (end < text_.size() && is_digit(text_[end])) ++end;
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
    last_was_whole_ = false;
    const bool is_negative = take("-");
    const std::optional<double> exponent = read_argument();
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
    last_was_whole_ = false;
    if (take("(")) return read_bracketed(")");
    if (take("{")) return read_bracketed("}");
    if (take("\\frac")) {
      const auto above = read_argument(true), below = above ? read_argument(true) : std::nullopt;
      last_was_whole_ = false;
      return below ? std::optional(*above / *below) : std::nullopt;
    }
    if (take("\\sqrt") || take("√")) {
      std::optional<double> root = 2;
      if (take("[")) root = read_bracketed("]");
      const auto inside = root ? read_argument(true) : std::nullopt;
      last_was_whole_ = false;
      if (!inside) return std::nullopt;
      return *root == 2 ? std::sqrt(*inside) : std::pow(*inside, 1 / *root);
    }
    if (take("\\pi") || take("π")) return std::numbers::pi;
    return read_decimal();
  }

  std::optional<double> read_decimal() {
    skip_spaces();
    size_t end = at_;
    while (end < text_.size() && is_digit(text_[end])) ++end;
    const size_t num_whole = end - at_;
    bool is_whole = num_whole > 0;
    if (end + 1 < text_.size() && text_[end] == '.' && is_digit(text_[end + 1])) {
      is_whole = false;
      for (++end; end < text_.size() && is_digit(text_[end]);) ++end;
    } else if (num_whole == 0) {
      return std::nullopt;
    } else if (end < text_.size() && text_[end] == '.') {
      is_whole = false;
    }
    std::string digits(text_.substr(at_, end - at_));
    at_ = end;
    if (!is_whole && at_ < text_.size() && text_[at_] == '.') ++at_;  // "5."
    size_t exponent = at_ + 1;
    if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
      if (exponent < text_.size() && (text_[exponent] == '-' || text_[exponent] == '+')) ++exponent;
      const size_t first = exponent;
      while (exponent < text_.size() && is_digit(text_[exponent])) ++exponent;
      if (exponent > first) {
        std::string power(text_.substr(at_ + 1, exponent - at_ - 1));
        digits += "e" + power;
        at_ = exponent;
        is_whole = false;
      }
    }
    last_was_whole_ = is_whole;
    replace_all(digits, "e+", "e");
    if (digits.starts_with('.')) digits = "0" + digits;
    return parse_number<double>(digits);
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  bool last_was_whole_ = false;
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

std::string normal_spelling(std::string_view answer) {
  std::string text(stripped(answer));
  // longer commands before those that they begin with
  for (const auto& [from, to] : std::initializer_list<std::pair<std::string_view, std::string_view>>{
           {"\\dfrac", "\\frac"},
           {"\\tfrac", "\\frac"},
           {"\\cfrac", "\\frac"},
           {"\\leftarrow", " "},
           {"\\left", ""},
           {"\\rightarrow", " "},
           {"\\right", ""},
           {"\\displaystyle", ""},
           {"\\!", ""},
           {"\\,", ""},
           {"\\;", ""},
           {"\\:", ""},
           {"\\ ", " "},
           {"\\quad", " "},
           {"{,}", ","},
           {"\\%", "%"},
           {"\\$", ""},
           {"$", ""},
           {"\\(", ""},
           {"\\)", ""},
           {"\\[", ""},
           {"\\]", ""},
           {"^{\\circ}", ""},
           {"^\\circ", ""},
           {"\\circ", ""},
           {"\\degree", ""},
           {"°", ""},
           {"€", ""},
           {"£", ""},
           {"−", "-"},
           {"×", "\\times "},
           {"÷", "\\div "},
           {"·", "\\cdot "},
           {"**", ""},
           {"\u00a0", " "},
       }) {
    replace_all(text, from, to);
  }
  unwrap_commands(text);
  std::string_view rest = stripped(text);
  while (!rest.empty() && (rest.back() == '.' || rest.back() == ',' || rest.back() == ';')) {
    rest.remove_suffix(1);
    rest = stripped(rest);
  }
  std::string spelt(rest);
  join_thousands(spelt);
  return spelt;
}

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

std::string find_last_number(std::string_view text) {
  std::string_view last;
  for (size_t i = 0; i < text.size();) {
    const bool is_fraction = text.substr(i).starts_with("\\frac{") || text.substr(i).starts_with("\\dfrac{");
    const bool is_decimal = is_digit(text[i]) || (text[i] == '.' && i + 1 < text.size() && is_digit(text[i + 1]));
    if (!is_fraction && !is_decimal) {
      ++i;
      continue;
    }
    size_t begin = i, end = i;
    if (is_fraction) {
      const std::string_view near = text.substr(0, i + kLongestFraction);
      const size_t above = closing_brace(near, near.find('{', i));
      const bool has_below = above != std::string_view::npos && above + 1 < near.size() && near[above + 1] == '{';
      const size_t below = has_below ? closing_brace(near, above + 1) : std::string_view::npos;
      if (below == std::string_view::npos) {
        i += 6;
        continue;
      }
      end = below + 1;
    } else {
      const auto skip_digits = [&] {
        while (end < text.size() && is_digit(text[end])) ++end;
      };
      skip_digits();
      if (end - begin <= 3) end += length_of_groups(text, end);
      if (end + 1 < text.size() && text[end] == '.' && is_digit(text[end + 1])) {
        ++end;
        skip_digits();
      }
      if (end + 1 < text.size() && text[end] == '/' && is_digit(text[end + 1])) {
        ++end;
        skip_digits();
      }
    }
    if (end < text.size() && text[end] == '%') ++end;
    if (text.substr(end).starts_with("\\%")) end += 2;
    // a sign, but no hyphen or minus between two values
    size_t sign = begin;
    while (sign > 0 && (text[sign - 1] == '$' || (text[sign - 1] == '\\' && text[sign] == '$'))) --sign;
    if (sign > 0 && text[sign - 1] == '-') {
      const char before = sign > 1 ? text[sign - 2] : ' ';
      if (!is_digit(before) && !is_letter(before) && before != ')' && before != '}') begin = sign - 1;
    }
    const bool is_in_word = begin > 0 && is_letter(text[begin - 1]) && begin == i && !is_fraction;
    if (!is_in_word) last = text.substr(begin, end - begin);
    i = end;
  }
  return std::string(last);
}

}  // namespace dsft::rewards

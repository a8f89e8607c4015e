#include "rewards/number_in_text.h"

#include "rewards/math_characters.h"

namespace dsft::rewards {
namespace {

constexpr size_t kLongestFraction = 200;

/// Behind the \frac{..}{..} that begins at `at`; `at` where there is none.
size_t skip_latex_fraction(std::string_view text, size_t at) {
  const std::string_view rest = text.substr(at, kLongestFraction);
  if (!rest.starts_with("\\frac{") && !rest.starts_with("\\dfrac{")) return at;
  const size_t above = closing_brace(rest, rest.find('{'));
  const bool has_below = above != std::string_view::npos && above + 1 < rest.size() && rest[above + 1] == '{';
  const size_t below = has_below ? closing_brace(rest, above + 1) : std::string_view::npos;
  return below == std::string_view::npos ? at : at + below + 1;
}

/// Behind the 3/4 that begins at `at`; `at` where there is none.
size_t skip_plain_fraction(std::string_view text, size_t at) {
  const size_t slash = skip_digits(text, at);
  if (slash == at || slash >= text.size() || text[slash] != '/') return at;
  const size_t end = skip_digits(text, slash + 1);
  return end > slash + 1 ? end : at;
}

/// Behind the fraction of a mixed number (1 3/4, 2\frac{1}{3}) whose whole part ends at `at`; `at` where there is none.
size_t skip_fraction_of_mixed(std::string_view text, size_t at) {
  const bool has_space = at < text.size() && text[at] == ' ';
  const size_t begin = has_space ? at + 1 : at;
  size_t end = skip_latex_fraction(text, begin);
  if (end == begin && has_space) end = skip_plain_fraction(text, begin);
  return end == begin ? at : end;
}

/// Behind the number that begins at `begin`, a digit or the point before one: 1,234.5, 3/4, 3.2e5; not mixed.
size_t skip_number(std::string_view text, size_t begin) {
  size_t end = skip_digits(text, begin);
  if (end - begin <= 3) end += length_of_groups(text, end);
  if (end < text.size() && text[end] == '.' && has_digit(text, end + 1)) end = skip_digits(text, end + 1);
  if (end < text.size() && text[end] == '/' && has_digit(text, end + 1)) return skip_digits(text, end + 1);
  return skip_exponent(text, end);
}

/// Whether these characters are a whole number written out.
bool is_whole(std::string_view number) {
  return !number.empty() && number.find_first_not_of("0123456789,") == std::string_view::npos;
}

size_t skip_percent(std::string_view text, size_t at) {
  const std::string_view rest = text.substr(at);
  return at + (rest.starts_with('%') ? 1 : rest.starts_with("\\%") ? 2 : 0);
}

/// Where a number that begins at `begin` begins with its sign, but for a hyphen or minus between two values.
size_t with_sign(std::string_view text, size_t begin) {
  size_t sign = begin;
  while (sign > 0 && (text[sign - 1] == '$' || (text[sign - 1] == '\\' && text[sign] == '$'))) --sign;
  if (sign == 0 || text[sign - 1] != '-') return begin;
  const char before = sign > 1 ? text[sign - 2] : ' ';
  const bool is_between = is_digit(before) || is_letter(before) || before == ')' || before == '}';
  return is_between ? begin : sign - 1;
}

}  // namespace

std::string find_last_number(std::string_view text) {
  std::string_view last;
  for (size_t i = 0; i < text.size();) {
    size_t end = skip_latex_fraction(text, i);
    const bool is_fraction = end > i;
    const bool is_decimal = is_digit(text[i]) || (text[i] == '.' && has_digit(text, i + 1));
    if (!is_fraction && !is_decimal) {
      ++i;
      continue;
    }
    const size_t begin = with_sign(text, i);
    const bool is_in_word = !is_fraction && begin == i && i > 0 && is_letter(text[i - 1]);
    if (!is_fraction) end = skip_number(text, i);
    if (!is_in_word && is_whole(text.substr(i, end - i))) end = skip_fraction_of_mixed(text, end);
    end = skip_percent(text, end);
    if (!is_in_word) last = text.substr(begin, end - begin);
    i = end;
  }
  return std::string(last);
}

}  // namespace dsft::rewards

#include "rewards/math_spelling.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "rewards/math_characters.h"
#include "text/white_space.h"

namespace dsft::rewards {
namespace {

using text::stripped;

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
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

void join_thousands(std::string& text) {
  for (size_t i = 0; i < text.size();) {
    if (!is_digit(text[i])) {
      ++i;
      continue;
    }
    const size_t begin = i;
    i = skip_digits(text, i);
    if (i - begin > 3 || (begin > 0 && text[begin - 1] == '.')) continue;
    const size_t length = length_of_groups(text, i);
    const auto first = text.begin() + static_cast<std::ptrdiff_t>(i);
    text.erase(std::remove(first, first + static_cast<std::ptrdiff_t>(length), ','),
               first + static_cast<std::ptrdiff_t>(length));
    i += length / 4 * 3;
  }
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

}  // namespace dsft::rewards

// The methods of Python's str.
#include <algorithm>
#include <array>
#include <map>

#include "text/jinja_fault.h"
#include "text/jinja_format.h"
#include "text/jinja_objects.h"
#include "text/jinja_operators.h"
#include "text/jinja_string_methods.h"
#include "text/jinja_string_operations.h"
#include "text/jinja_unicode.h"

namespace dsft::text::jinja {

namespace {

using Method = Value (*)(Interpreter&, const Text&, Arguments);

Value strip_side(const char* name, const Text& text, Arguments arguments, StripSide side) {
  const Bound bound(name, std::move(arguments), {"chars"});
  return Value(strip(text, bound.is_given(0) ? &bound.text(0) : nullptr, side));
}

Value split_spaces(const Text& text, int64_t limit) {
  std::vector<Value> parts;
  const auto characters = characters_of(text.bytes());
  for (size_t i = 0; i < characters.size();) {
    if (is_space(characters[i].code)) {
      ++i;
      continue;
    }
    size_t end = i;
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.emplace_back(text.slice(characters[i].begin, text.size()));
      break;
    }
    while (end < characters.size() && !is_space(characters[end].code)) ++end;
    add_part(parts, text.slice(characters[i].begin, characters[end - 1].end));
    i = end;
  }
  return make_list(std::move(parts));
}

Value split_spaces_from_right(const Text& text, int64_t limit) {
  std::vector<Value> parts;
  const auto characters = characters_of(text.bytes());
  for (size_t i = characters.size(); i > 0;) {
    if (is_space(characters[i - 1].code)) {
      --i;
      continue;
    }
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.emplace_back(text.slice(0, characters[i - 1].end));
      break;
    }
    size_t begin = i;
    while (begin > 0 && !is_space(characters[begin - 1].code)) --begin;
    add_part(parts, text.slice(characters[begin].begin, characters[i - 1].end));
    i = begin;
  }
  std::reverse(parts.begin(), parts.end());
  return make_list(std::move(parts));
}

Value split(Interpreter&, const Text& text, Arguments arguments) {
  const Bound bound("split", std::move(arguments), {"sep", "maxsplit"});
  const int64_t limit = bound.integer(1, -1);
  if (!bound.is_given(0)) return split_spaces(text, limit);
  const std::string& separator = bound.text(0).bytes();
  if (separator.empty()) fail_render("empty separator");
  std::vector<Value> parts;
  size_t at = 0;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t found = find_bytes(text.bytes(), separator, at);
    if (found == std::string::npos) break;
    add_part(parts, text.slice(at, found));
    at = found + separator.size();
  }
  parts.emplace_back(text.slice(at, text.size()));
  return make_list(std::move(parts));
}

Value rsplit(Interpreter&, const Text& text, Arguments arguments) {
  const Bound bound("rsplit", std::move(arguments), {"sep", "maxsplit"});
  const int64_t limit = bound.integer(1, -1);
  if (!bound.is_given(0)) return split_spaces_from_right(text, limit);
  const std::string& separator = bound.text(0).bytes();
  if (separator.empty()) fail_render("empty separator");
  std::vector<Value> parts;
  const std::string reversed(text.bytes().rbegin(), text.bytes().rend());
  const std::string reversed_separator(separator.rbegin(), separator.rend());
  size_t at = 0;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t found = find_bytes(reversed, reversed_separator, at);
    if (found == std::string::npos) break;
    add_part(parts, text.slice(text.size() - found, text.size() - at));
    at = found + separator.size();
  }
  parts.emplace_back(text.slice(0, text.size() - at));
  std::reverse(parts.begin(), parts.end());
  return make_list(std::move(parts));
}

Value partition_at(const Text& text, size_t found, size_t length, bool keeps_left) {
  if (found == std::string::npos) {
    if (keeps_left) return make_tuple({Value(text), Value(Text()), Value(Text())});
    return make_tuple({Value(Text()), Value(Text()), Value(text)});
  }
  return make_tuple({Value(text.slice(0, found)), Value(text.slice(found, found + length)),
                     Value(text.slice(found + length, text.size()))});
}

Value partition(const char* name, const Text& text, Arguments arguments, bool is_first) {
  const Bound bound(name, std::move(arguments), {"sep"}, 1);
  const std::string& separator = bound.text(0).bytes();
  if (separator.empty()) fail_render("empty separator");
  const size_t found = is_first ? find_bytes(text.bytes(), separator) : find_last_bytes(text.bytes(), separator);
  return partition_at(text, found, separator.size(), is_first);
}

// The bytes that start and end arguments name.
std::string_view range_of(const Text& text, const Bound& bound, size_t& begin) {
  const Value whole(text);
  const auto length = static_cast<int64_t>(count_characters(text.bytes()));
  const auto place = [&](size_t argument, int64_t otherwise) {
    if (!bound.is_given(argument)) return otherwise;
    const int64_t index = bound.integer(argument, 0);
    return std::max<int64_t>(index < 0 ? index + length : index, 0);
  };
  const int64_t first = place(1, 0);
  const int64_t last = std::min(place(2, length), length);
  begin = byte_of_character(text.bytes(), static_cast<size_t>(std::min(first, length)));
  if (first > length || last < first) return std::string_view(nullptr, 0);
  return std::string_view(text.bytes())
      .substr(begin, byte_of_character(text.bytes(), static_cast<size_t>(last)) - begin);
}

int64_t find_index(const char* name, const Text& text, Arguments arguments, bool is_first) {
  const Bound bound(name, std::move(arguments), {"sub", "start", "end"}, 1);
  size_t begin = 0;
  const std::string_view range = range_of(text, bound, begin);
  const std::string& part = bound.text(0).bytes();
  if (!range.data()) return -1;
  const size_t found = is_first ? find_bytes(range, part) : find_last_bytes(range, part);
  if (found == std::string_view::npos) return -1;
  return static_cast<int64_t>(count_characters(std::string_view(text.bytes()).substr(0, begin + found)));
}

Value index_or_fault(int64_t index) {
  if (index < 0) fail_render("substring not found");
  return Value(index);
}

Value count(Interpreter&, const Text& text, Arguments arguments) {
  const Bound bound("count", std::move(arguments), {"sub", "start", "end"}, 1);
  size_t begin = 0;
  const std::string_view range = range_of(text, bound, begin);
  const std::string& part = bound.text(0).bytes();
  if (!range.data()) return Value(int64_t{0});
  if (part.empty()) return Value(static_cast<int64_t>(count_characters(range)) + 1);
  int64_t found = 0;
  for (size_t at = find_bytes(range, part); at != std::string_view::npos;
       at = find_bytes(range, part, at + part.size()))
    ++found;
  return Value(found);
}

Value has_affix(const char* name, const Text& text, Arguments arguments,
                bool (*matches)(std::string_view, std::string_view)) {
  const Bound bound(name, std::move(arguments), {"prefix", "start", "end"}, 1);
  size_t begin = 0;
  const std::string_view range = range_of(text, bound, begin);
  const Sequence* choices = bound[0].as_sequence();
  if (!choices) return Value(range.data() && matches(range, bound.text(0).bytes()));
  for (const Value& choice : choices->items) {
    if (!choice.as_text()) fail_render("tuple for ", name, " must only contain str, not ", type_name(choice));
    if (range.data() && matches(range, choice.as_text()->bytes())) return Value(true);
  }
  return Value(false);
}

bool starts(std::string_view text, std::string_view affix) {
  return text.starts_with(affix);
}
bool ends(std::string_view text, std::string_view affix) {
  return text.ends_with(affix);
}

Value replace_method(Interpreter&, const Text& text, Arguments arguments) {
  const Bound bound("replace", std::move(arguments), {"old", "new", "count"}, 2);
  return Value(replace(text, bound.text(0).bytes(), bound.text(1), bound.integer(2, -1)));
}

Value join_method(Interpreter&, const Text& text, Arguments arguments) {
  const Bound bound("join", std::move(arguments), {"iterable"}, 1);
  const std::vector<Value> items = iterate(bound[0]);
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].as_text())
      fail_render("sequence item ", i, ": expected str instance, ", type_name(items[i]), " found");
  }
  return Value(join(text, items));
}

Text title(const Text& text) {
  Text result;
  bool is_inside = false;
  for (const Character& c : characters_of(text.bytes())) {
    std::string mapped;
    (is_inside ? append_lower : append_title)(mapped, c.code);
    result.append(mapped, text.origin_at(c.begin));
    is_inside = is_upper(c.code) || is_lower(c.code);
  }
  return result;
}

void append_swapped(std::string& out, int32_t code) {
  (is_upper(code) ? append_lower : append_upper)(out, code);
}

Value pad_method(const char* name, const Text& text, Arguments arguments, int side) {
  const Bound bound(name, std::move(arguments), {"width", "fillchar"}, 1);
  const std::string fill = bound.has(1) ? bound.text(1).bytes() : " ";
  if (count_characters(fill) != 1) fail_render("The fill character must be exactly one character long");
  const int64_t width = std::max<int64_t>(0, bound.integer(0, 0));
  const int64_t missing = std::max<int64_t>(0, width - static_cast<int64_t>(count_characters(text.bytes())));
  const int64_t left = side < 0 ? 0 : (side > 0 ? missing : missing / 2 + (missing & width & 1));
  return Value(pad(text, left, missing - left, fill));
}

Value zfill(Interpreter&, const Text& text, Arguments arguments) {
  const Bound bound("zfill", std::move(arguments), {"width"}, 1);
  const int64_t width = std::max<int64_t>(0, bound.integer(0, 0));
  const int64_t missing = std::max<int64_t>(0, width - static_cast<int64_t>(count_characters(text.bytes())));
  const size_t sign = !text.empty() && (text.bytes()[0] == '-' || text.bytes()[0] == '+') ? 1 : 0;
  Text result = text.slice(0, sign);
  result.append(pad(text.slice(sign, text.size()), missing, 0, "0"));
  return Value(std::move(result));
}

Value remove_affix(const char* name, const Text& text, Arguments arguments, bool is_prefix) {
  const Bound bound(name, std::move(arguments), {"affix"}, 1);
  const std::string& affix = bound.text(0).bytes();
  if (affix.empty()) return Value(text);
  if (is_prefix) return Value(text.bytes().starts_with(affix) ? text.slice(affix.size(), text.size()) : text);
  return Value(text.bytes().ends_with(affix) ? text.slice(0, text.size() - affix.size()) : text);
}

bool is_alphanumeric(int32_t code) {
  return is_alpha(code) || is_decimal(code) || is_digit(code) || is_numeric(code);
}

bool is_title(const Text& text) {
  return !text.empty() && title(text).bytes() == text.bytes() &&
         (!is_all_upper(text) || count_characters(text.bytes()) == 1);
}

template <bool (*Accepts)(int32_t)>
Value all_are(Interpreter&, const Text& text, Arguments) {
  return Value(is_all(text, Accepts));
}

const std::map<std::string_view, Method>& methods() {
  using I = Interpreter;
  using T = Text;
  using A = Arguments;
  static const std::map<std::string_view, Method> table = {
      {"strip", [](I&, const T& t, A a) { return strip_side("strip", t, std::move(a), StripSide::kBoth); }},
      {"lstrip", [](I&, const T& t, A a) { return strip_side("lstrip", t, std::move(a), StripSide::kLeft); }},
      {"rstrip", [](I&, const T& t, A a) { return strip_side("rstrip", t, std::move(a), StripSide::kRight); }},
      {"split", split},
      {"rsplit", rsplit},
      {"partition", [](I&, const T& t, A a) { return partition("partition", t, std::move(a), true); }},
      {"rpartition", [](I&, const T& t, A a) { return partition("rpartition", t, std::move(a), false); }},
      {"splitlines",
       [](I&, const T& t, A a) {
         return make_list(split_lines(t, Bound("splitlines", std::move(a), {"keepends"}).flag(0, false)));
       }},
      {"find", [](I&, const T& t, A a) { return Value(find_index("find", t, std::move(a), true)); }},
      {"rfind", [](I&, const T& t, A a) { return Value(find_index("rfind", t, std::move(a), false)); }},
      {"index", [](I&, const T& t, A a) { return index_or_fault(find_index("index", t, std::move(a), true)); }},
      {"rindex", [](I&, const T& t, A a) { return index_or_fault(find_index("rindex", t, std::move(a), false)); }},
      {"count", count},
      {"startswith", [](I&, const T& t, A a) { return has_affix("startswith", t, std::move(a), starts); }},
      {"endswith", [](I&, const T& t, A a) { return has_affix("endswith", t, std::move(a), ends); }},
      {"replace", replace_method},
      {"join", join_method},
      {"upper", [](I&, const T& t, A) { return Value(map_characters(t, append_upper)); }},
      {"lower", [](I&, const T& t, A) { return Value(map_characters(t, append_lower)); }},
      {"casefold", [](I&, const T& t, A) { return Value(map_characters(t, append_lower)); }},
      {"swapcase", [](I&, const T& t, A) { return Value(map_characters(t, append_swapped)); }},
      {"capitalize", [](I&, const T& t, A) { return Value(capitalize(t)); }},
      {"title", [](I&, const T& t, A) { return Value(title(t)); }},
      {"ljust", [](I&, const T& t, A a) { return pad_method("ljust", t, std::move(a), -1); }},
      {"rjust", [](I&, const T& t, A a) { return pad_method("rjust", t, std::move(a), 1); }},
      {"center", [](I&, const T& t, A a) { return pad_method("center", t, std::move(a), 0); }},
      {"zfill", zfill},
      {"removeprefix", [](I&, const T& t, A a) { return remove_affix("removeprefix", t, std::move(a), true); }},
      {"removesuffix", [](I&, const T& t, A a) { return remove_affix("removesuffix", t, std::move(a), false); }},
      {"format", [](I& i, const T& t, A a) { return Value(format_braces(i, t, a)); }},
      {"isalpha", all_are<is_alpha>},
      {"isdecimal", all_are<is_decimal>},
      {"isdigit", all_are<is_digit>},
      {"isnumeric", all_are<is_numeric>},
      {"isalnum", all_are<is_alphanumeric>},
      {"isspace", all_are<is_space>},
      {"isprintable", [](I&, const T& t, A) { return Value(t.empty() || is_all(t, is_printable)); }},
      {"isascii",
       [](I&, const T& t, A) {
         return Value(std::all_of(t.bytes().begin(), t.bytes().end(), [](char c) { return !(c & 0x80); }));
       }},
      {"isupper", [](I&, const T& t, A) { return Value(is_all_upper(t)); }},
      {"islower", [](I&, const T& t, A) { return Value(is_all_lower(t)); }},
      {"istitle", [](I&, const T& t, A) { return Value(is_title(t)); }},
  };
  return table;
}

}  // namespace

bool find_string_method(const TextPtr& text, const std::string& name, Value& method) {
  const auto it = methods().find(name);
  if (it == methods().end()) return false;
  method = Value(std::shared_ptr<Object>(
      std::make_shared<Function>(name, [text, body = it->second](Interpreter& interpreter, Arguments arguments) {
        interpreter.charge_for(Value(text));
        return body(interpreter, *text, std::move(arguments));
      })));
  return true;
}

}  // namespace dsft::text::jinja

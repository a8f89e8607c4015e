#include "text/jinja_format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "text/jinja_fault.h"
#include "text/jinja_string_operations.h"
#include "text/jinja_unicode.h"

namespace dsft::text::jinja {

namespace {

constexpr int64_t kMaxWidth = 1 << 16;

struct Specification {
  std::string fill = " ";
  char align = '\0';  // < > ^ =
  char sign = '-';
  bool is_alternate = false;
  bool has_zeros = false;
  char grouping = '\0';
  int64_t width = 0;
  int64_t precision = -1;
  char type = '\0';
};

int64_t read_count(const std::string& text, size_t& at) {
  int64_t value = 0;
  while (at < text.size() && is_ascii_digit(text[at])) {
    value = value * 10 + (text[at++] - '0');
    if (value > kMaxWidth) fail_render("a format width or precision is larger than ", kMaxWidth);
  }
  return value;
}

std::string print_double(double value, char type, int64_t precision, bool is_alternate) {
  const std::string format = std::string(is_alternate ? "%#." : "%.") + std::to_string(precision) + type;
  const int size = std::snprintf(nullptr, 0, format.c_str(), value);
  std::string buffer(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(buffer.data(), buffer.size(), format.c_str(), value);
  buffer.pop_back();
  return buffer;
}

std::string print_magnitude(uint64_t magnitude, char type) {
  if (type == 'b') {
    std::string bits;
    do bits.insert(bits.begin(), static_cast<char>('0' + (magnitude & 1)));
    while (magnitude >>= 1);
    return bits;
  }
  std::array<char, 32> buffer{};
  const char* format = type == 'x' ? "%lx" : type == 'X' ? "%lX" : type == 'o' ? "%lo" : "%lu";
  std::snprintf(buffer.data(), buffer.size(), format, static_cast<unsigned long>(magnitude));
  return buffer.data();
}

// Puts the thousands separators into the digits in front of a point or exponent.
std::string grouped(const std::string& digits, char separator) {
  const size_t whole = std::min(digits.find_first_of(".e"), digits.size());
  std::string result;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) result += separator;
    result += digits[i];
  }
  return result + digits.substr(whole);
}

// A number's sign and digits with the specification's sign, prefix and grouping, padded to its width.
std::string finish_number(bool is_negative, std::string digits, const std::string& prefix, const Specification& spec) {
  if (spec.grouping) digits = grouped(digits, spec.grouping);
  const std::string sign = is_negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  const auto length = static_cast<int64_t>(sign.size() + prefix.size() + digits.size());
  const int64_t missing = std::max<int64_t>(0, spec.width - length);
  const char align = spec.align ? spec.align : spec.has_zeros ? '=' : '>';
  const std::string fill = spec.has_zeros && !spec.align ? "0" : spec.fill;
  const auto repeat = [&](int64_t times) {
    std::string text;
    for (int64_t i = 0; i < times; ++i) text += fill;
    return text;
  };
  if (align == '=') return sign + prefix + repeat(missing) + digits;
  const int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  return repeat(left) + sign + prefix + digits + repeat(missing - left);
}

std::string format_integer(int64_t value, const Specification& spec) {
  const uint64_t magnitude = value < 0 ? ~static_cast<uint64_t>(value) + 1 : static_cast<uint64_t>(value);
  const std::string prefix = !spec.is_alternate || spec.type == 'd' || !spec.type ? "" : std::string("0") + spec.type;
  std::string digits = print_magnitude(magnitude, spec.type);
  if (spec.precision > static_cast<int64_t>(digits.size()))
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  return finish_number(value < 0, std::move(digits), prefix, spec);
}

std::string format_float(double value, const Specification& spec) {
  if (!std::isfinite(value)) {
    Specification plain = spec;
    plain.grouping = '\0';
    const bool is_upper_case = spec.type == 'F' || spec.type == 'E' || spec.type == 'G';
    const std::string word = std::isnan(value) ? (is_upper_case ? "NAN" : "nan") : (is_upper_case ? "INF" : "inf");
    return finish_number(value < 0, word, "", plain);
  }
  const double magnitude = std::fabs(value);
  std::string digits;
  if (!spec.type && spec.precision < 0) {
    digits = represent_float(magnitude);
  } else if (spec.type == '%') {
    digits = print_double(magnitude * 100, 'f', spec.precision < 0 ? 6 : spec.precision, false) + "%";
  } else {
    const char type = spec.type ? spec.type : 'g';
    digits = print_double(magnitude, type, spec.precision < 0 ? 6 : spec.precision, spec.is_alternate);
  }
  return finish_number(std::signbit(value), std::move(digits), "", spec);
}

Text format_string(const Text& text, const Specification& spec) {
  Text cut = text;
  if (spec.precision >= 0) cut = text.slice(0, byte_of_character(text.bytes(), static_cast<size_t>(spec.precision)));
  const int64_t missing = std::max<int64_t>(0, spec.width - static_cast<int64_t>(count_characters(cut.bytes())));
  const int64_t left = spec.align == '>' ? missing : spec.align == '^' ? missing / 2 : 0;
  return pad(cut, left, missing - left, spec.fill);
}

int64_t integer_of(const Value& value, char type) {
  if (value.is_integral()) return value.integral();
  if (value.as_float() && (type == 'd' || type == 'i' || type == 'u') && std::fabs(*value.as_float()) < 9e18)
    return static_cast<int64_t>(*value.as_float());
  if (value.is_undefined()) fail_render(value.undefined_reason());
  fail_render("%", type, " format: a number is required, not ", type_name(value));
}

Text format_one(const Value& value, Specification spec, char type) {
  switch (type) {
    case 's':
      return format_string(*to_text(value), spec);
    case 'r':
    case 'a':
      return format_string(represent(value), spec);
    case 'c': {
      std::string character;
      if (value.as_text() && count_characters(value.as_text()->bytes()) == 1)
        return format_string(*value.as_text(), spec);
      const int64_t code = integer_of(value, type);
      if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        fail_render("%c arg not in range(0x110000)");
      append_code_point(character, static_cast<int32_t>(code));
      return format_string(Text(character, Origin{}), spec);
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
      spec.type = type == 'i' || type == 'u' ? 'd' : type;
      return Text(format_integer(integer_of(value, type), spec), Origin{});
    case 'f':
    case 'F':
    case 'e':
    case 'E':
    case 'g':
    case 'G':
      if (!value.is_number()) fail_render("must be real number, not ", type_name(value));
      spec.type = type;
      return Text(format_float(value.number(), spec), Origin{});
    default:
      fail_render("unsupported format character '", type, "'");
  }
}

}  // namespace

Text format_percent(const Text& format, const Value& values) {
  const std::string& pattern = format.bytes();
  const Sequence* sequence = values.as_sequence();
  const bool is_tuple = sequence && (sequence->type == SequenceType::kTuple || sequence->type == SequenceType::kGroup);
  const Mapping* mapping = values.as_mapping();
  size_t used = 0;
  const auto next = [&]() -> Value {
    if (is_tuple ? used >= sequence->items.size() : used > 0) fail_render("not enough arguments for format string");
    return is_tuple ? sequence->items[used++] : (++used, values);
  };
  Text result;
  bool has_names = false;
  for (size_t at = 0; at < pattern.size();) {
    const size_t percent = std::min(pattern.find('%', at), pattern.size());
    result.append(format, at, percent);
    if (percent == pattern.size()) break;
    at = percent + 1;
    Value value;
    bool has_value = false;
    if (at < pattern.size() && pattern[at] == '(') {
      const size_t close = pattern.find(')', at);
      if (close == std::string::npos) fail_render("incomplete format key");
      if (!mapping) fail_render("format requires a mapping");
      const Value* found = mapping->find(std::string_view(pattern).substr(at + 1, close - at - 1));
      if (!found) fail_render("the format key '", pattern.substr(at + 1, close - at - 1), "' is missing");
      value = *found;
      has_value = has_names = true;
      at = close + 1;
    }
    Specification spec;
    for (; at < pattern.size() && std::string_view("-+ #0").find(pattern[at]) != std::string_view::npos; ++at) {
      if (pattern[at] == '-') spec.align = '<';
      if (pattern[at] == '+' || (pattern[at] == ' ' && spec.sign == '-')) spec.sign = pattern[at];
      if (pattern[at] == '#') spec.is_alternate = true;
      if (pattern[at] == '0') spec.has_zeros = true;
    }
    if (!spec.align && !spec.has_zeros) spec.align = '>';
    spec.width = read_count(pattern, at);
    if (at < pattern.size() && pattern[at] == '.') spec.precision = read_count(pattern, ++at);
    if (at >= pattern.size()) fail_render("incomplete format");
    const char type = pattern[at++];
    if (type == '%') {
      result.append("%", format.origin_at(at - 1));
      continue;
    }
    result.append(format_one(has_value ? value : next(), spec, type));
  }
  const size_t given = is_tuple ? sequence->items.size() : 1;
  if (!has_names && !(mapping && used == 0) && used < given && !(sequence && !is_tuple && used == 0))
    fail_render("not all arguments converted during string formatting");
  return result;
}

namespace {

Specification read_specification(const std::string& text) {
  Specification spec;
  size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  if (!text.empty()) {
    const size_t first = character_at(text, 0).end;
    if (first < text.size() && is_align(text[first])) {
      spec.fill = text.substr(0, first);
      spec.align = text[first];
      at = first + 1;
    } else if (is_align(text[0])) {
      spec.align = text[0];
      at = 1;
    }
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) spec.sign = text[at++];
  if (at < text.size() && text[at] == '#') spec.is_alternate = (++at, true);
  if (at < text.size() && text[at] == '0') spec.has_zeros = (++at, true);
  spec.width = read_count(text, at);
  if (at < text.size() && (text[at] == ',' || text[at] == '_')) spec.grouping = text[at++];
  if (at < text.size() && text[at] == '.') spec.precision = read_count(text, ++at);
  if (at < text.size()) spec.type = text[at++];
  if (at < text.size()) fail_render("invalid format specifier '", text, "'");
  return spec;
}

Text format_with(const Value& value, const std::string& specification) {
  if (specification.empty()) return *to_text(value);
  Specification spec = read_specification(specification);
  const std::string_view float_types = "eEfFgG%";
  const bool asks_float = spec.type && float_types.find(spec.type) != std::string_view::npos;
  if (value.as_text()) {
    if (spec.type && spec.type != 's') fail_render("unknown format code '", spec.type, "' for object of type 'str'");
    return format_string(*value.as_text(), spec);
  }
  if (value.as_bool() && !spec.type) return format_string(*to_text(value), spec);
  if (value.is_integral() && !asks_float) {
    if (spec.type && std::string_view("dxXobn").find(spec.type) == std::string_view::npos)
      fail_render("unknown format code '", spec.type, "' for object of type 'int'");
    return Text(format_integer(value.integral(), spec), Origin{});
  }
  if (value.is_number()) {
    if (spec.type && !asks_float) fail_render("unknown format code '", spec.type, "' for object of type 'float'");
    return Text(format_float(value.number(), spec), Origin{});
  }
  fail_render("unsupported format string passed to ", type_name(value), ".__format__");
}

// What a replacement field's name ("0", "name", "a.b[c]") stands for.
Value field_value(Interpreter& interpreter, const std::string& name, const Arguments& arguments, size_t& next) {
  const size_t first_end = std::min(name.find_first_of(".["), name.size());
  const std::string first = name.substr(0, first_end);
  Value value;
  if (first.empty() || std::all_of(first.begin(), first.end(), is_ascii_digit)) {
    size_t at = 0;
    const size_t index = first.empty() ? next++ : static_cast<size_t>(read_count(first, at));
    if (index >= arguments.positional.size())
      fail_render("replacement index ", index, " out of range for positional args tuple");
    value = arguments.positional[index];
  } else {
    const auto it = std::find_if(arguments.keywords.begin(), arguments.keywords.end(),
                                 [&](const auto& keyword) { return keyword.first == first; });
    if (it == arguments.keywords.end()) fail_render("the format field '", first, "' is missing");
    value = it->second;
  }
  for (size_t at = first_end; at < name.size();) {
    const bool is_item = name[at] == '[';
    const size_t end = is_item ? name.find(']', at) : std::min(name.find_first_of(".[", at + 1), name.size());
    if (end == std::string::npos || (!is_item && name[at] != '.')) fail_render("malformed format field '", name, "'");
    const std::string part = name.substr(at + 1, end - at - 1);
    if (is_item && !part.empty() && std::all_of(part.begin(), part.end(), is_ascii_digit)) {
      size_t digits = 0;
      value = interpreter.item_of(value, Value(read_count(part, digits)));
    } else {
      value = is_item ? interpreter.item_of(value, Value::words(part)) : interpreter.attribute_of(value, part);
    }
    at = is_item ? end + 1 : end;
  }
  return value;
}

}  // namespace

Text format_braces(Interpreter& interpreter, const Text& format, const Arguments& arguments) {
  const std::string& pattern = format.bytes();
  Text result;
  size_t next = 0;
  for (size_t at = 0; at < pattern.size();) {
    const size_t brace = std::min(pattern.find_first_of("{}", at), pattern.size());
    result.append(format, at, brace);
    if (brace == pattern.size()) break;
    if (brace + 1 < pattern.size() && pattern[brace + 1] == pattern[brace]) {
      result.append(format, brace, brace + 1);
      at = brace + 2;
      continue;
    }
    const size_t close = pattern.find('}', brace);
    if (pattern[brace] == '}' || close == std::string::npos)
      fail_render("single '", pattern[brace], "' encountered in format string");
    std::string field = pattern.substr(brace + 1, close - brace - 1);
    if (field.find('{') != std::string::npos) fail_render("nested fields in format strings are not supported");
    at = close + 1;
    std::string specification;
    if (const size_t colon = field.find(':'); colon != std::string::npos) {
      specification = field.substr(colon + 1);
      field.resize(colon);
    }
    char conversion = 's';
    bool has_conversion = false;
    if (const size_t mark = field.find('!'); mark != std::string::npos) {
      if (mark + 2 != field.size()) fail_render("malformed conversion in format field '", field, "'");
      conversion = field[mark + 1];
      has_conversion = true;
      field.resize(mark);
    }
    Value value = field_value(interpreter, field, arguments, next);
    if (has_conversion) value = conversion == 's' ? Value(to_text(value)) : Value(represent(value));
    result.append(format_with(value, specification));
  }
  return result;
}

}  // namespace dsft::text::jinja

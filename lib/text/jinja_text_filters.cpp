// Filters of strings and numbers.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>

#include "text/jinja_fault.h"
#include "text/jinja_filters.h"
#include "text/jinja_format.h"
#include "text/jinja_objects.h"
#include "text/jinja_operators.h"
#include "text/jinja_string_operations.h"
#include "text/jinja_unicode.h"

namespace dsft::text::jinja {

namespace {

const Text& need_text(const char* filter, const Value& input) {
  if (input.is_undefined()) fail_render(input.undefined_reason());
  if (!input.as_text()) fail_render("the filter ", filter, " needs a string, not ", type_name(input));
  return *input.as_text();
}

Value trim(Interpreter&, const Value& input, Arguments arguments) {
  const Bound bound("trim", std::move(arguments), {"chars"});
  return Value(strip(*to_text(input), bound.is_given(0) ? &bound.text(0) : nullptr, StripSide::kBoth));
}

Value replace_filter(Interpreter&, const Value& input, Arguments arguments) {
  const Bound bound("replace", std::move(arguments), {"old", "new", "count"}, 2);
  const int64_t count = bound.is_given(2) ? bound.integer(2, -1) : -1;
  return Value(replace(*to_text(input), to_string(bound[0]), *to_text(bound[1]), count));
}

// Words start after the characters that jinja2 splits at, not only after spaces.
Value title(Interpreter&, const Value& input, Arguments) {
  const TextPtr text = to_text(input);
  Text result;
  bool is_inside = false;
  for (const Character& c : characters_of(text->bytes())) {
    std::string mapped;
    const bool is_border =
        is_space(c.code) || c.code == '-' || c.code == '(' || c.code == '{' || c.code == '[' || c.code == '<';
    if (is_border) {
      append_code_point(mapped, c.code);
    } else {
      (is_inside ? append_lower : append_upper)(mapped, c.code);
    }
    is_inside = !is_border;
    result.append(mapped, text->origin_at(c.begin));
  }
  return Value(std::move(result));
}

Value indent(Interpreter&, const Value& input, Arguments arguments) {
  const Bound bound("indent", std::move(arguments), {"width", "first", "blank"});
  Text text = need_text("indent", input);
  const std::string margin =
      bound.has(0) && bound[0].as_text()
          ? bound[0].as_text()->bytes()
          : std::string(static_cast<size_t>(std::clamp<int64_t>(bound.integer(0, 4), 0, 4096)), ' ');
  text.append("\n", Origin{});
  const std::vector<Value> lines = split_lines(text, false);
  Text result;
  if (bound.flag(1, false)) result.append(margin, Origin{});
  for (size_t i = 0; i < lines.size(); ++i) {
    const Text& line = *lines[i].as_text();
    if (i > 0) result.append("\n", Origin{});
    if (i > 0 && (bound.flag(2, false) || !line.empty())) result.append(margin, Origin{});
    result.append(line);
  }
  return Value(std::move(result));
}

Value truncate(Interpreter&, const Value& input, Arguments arguments) {
  const Bound bound("truncate", std::move(arguments), {"length", "killwords", "end", "leeway"});
  const Text& text = need_text("truncate", input);
  const int64_t length = bound.integer(0, 255);
  const Text end = bound.has(2) ? bound.text(2) : Text("...", Origin{});
  const auto end_length = static_cast<int64_t>(count_characters(end.bytes()));
  const int64_t leeway = bound.is_given(3) ? bound.integer(3, 5) : 5;
  if (length < end_length || leeway < 0) fail_render("truncate needs length >= ", end_length, " and leeway >= 0");
  if (static_cast<int64_t>(count_characters(text.bytes())) - length <= leeway) return input;
  Text cut = text.slice(0, byte_of_character(text.bytes(), static_cast<size_t>(length - end_length)));
  if (!bound.flag(1, false)) {
    const size_t space = cut.bytes().rfind(' ');
    if (space != std::string::npos) cut = cut.slice(0, space);
  }
  cut.append(end);
  return Value(std::move(cut));
}

Value center(Interpreter& interpreter, const Value& input, Arguments arguments) {
  const Bound bound("center", std::move(arguments), {"width"});
  Arguments width;
  width.positional.emplace_back(bound.integer(0, 80));
  return interpreter.call(interpreter.attribute_of(Value(to_text(input)), "center"), std::move(width));
}

Value count_words(Interpreter&, const Value& input, Arguments) {
  int64_t words = 0;
  bool is_inside = false;
  for (const Character& c : characters_of(to_text(input)->bytes())) {
    const bool is_word = c.code == '_' || is_alpha(c.code) || is_numeric(c.code);
    if (is_word && !is_inside) ++words;
    is_inside = is_word;
  }
  return Value(words);
}

Value escape(Interpreter&, const Value& input, Arguments) {
  if (input.as_text() && input.as_text()->is_markup) return input;
  return Value(escape_html(*to_text(input)));
}

Value safe(Interpreter&, const Value& input, Arguments) {
  Text text = *to_text(input);
  text.is_markup = true;
  return Value(std::move(text));
}

Value to_string_filter(Interpreter&, const Value& input, Arguments) {
  return Value(to_text(input));
}

Value format_filter(Interpreter&, const Value& input, Arguments arguments) {
  if (!arguments.positional.empty() && !arguments.keywords.empty())
    fail_render("format cannot take positional and keyword arguments at the same time");
  if (arguments.keywords.empty())
    return Value(format_percent(*to_text(input), make_tuple(std::move(arguments.positional))));
  Mapping mapping;
  for (auto& [name, value] : arguments.keywords) mapping.set(Value::words(name), std::move(value));
  return Value(format_percent(*to_text(input), make_mapping(std::move(mapping))));
}

// int(text, base) as Python reads it; nullopt where it raises ValueError.
std::optional<int64_t> parse_integer(const Text& text, int64_t base) {
  std::string digits = strip(text, nullptr, StripSide::kBoth).bytes();
  bool is_negative = false;
  if (!digits.empty() && (digits[0] == '+' || digits[0] == '-')) {
    is_negative = digits[0] == '-';
    digits.erase(0, 1);
  }
  const char prefix = digits.size() > 2 && digits[0] == '0' ? static_cast<char>(digits[1] | 0x20) : '\0';
  const int64_t named = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
  if (named != 0 && (base == named || base == 0)) {
    base = named;
    digits.erase(0, 2);
  }
  if (base == 0) base = 10;
  if (base < 2 || base > 36 || digits.empty() || digits.front() == '_' || digits.back() == '_') return std::nullopt;
  digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
  int64_t value = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value, static_cast<int>(base));
  if (result.ec == std::errc::result_out_of_range) fail_render("an integer leaves 64 bits");
  if (result.ec != std::errc() || result.ptr != digits.data() + digits.size() || value < 0) return std::nullopt;
  return is_negative ? -value : value;
}

std::optional<double> parse_float(const Text& text) {
  std::string digits = strip(text, nullptr, StripSide::kBoth).bytes();
  const bool is_plain = digits.find_first_of("xXpP(") == std::string::npos;
  if (digits.empty() || !is_plain) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end);
  if (end != digits.c_str() + digits.size()) return std::nullopt;
  return value;
}

int64_t truncated(double value) {
  if (std::fabs(value) >= 9.2e18) fail_render("an integer leaves 64 bits");
  return static_cast<int64_t>(value);
}

Value to_int(Interpreter&, const Value& input, Arguments arguments) {
  const Bound bound("int", std::move(arguments), {"default", "base"});
  const Value otherwise = bound.has(0) ? bound[0] : Value(int64_t{0});
  if (input.is_undefined()) fail_render(input.undefined_reason());
  if (input.is_integral()) return Value(input.integral());
  if (input.as_text()) {
    if (const auto value = parse_integer(*input.as_text(), bound.integer(1, 10))) return Value(*value);
    const auto value = parse_float(*input.as_text());
    return value && std::isfinite(*value) ? Value(truncated(*value)) : otherwise;
  }
  if (!input.as_float()) return otherwise;
  if (std::isinf(*input.as_float())) fail_render("cannot convert float infinity to integer");
  return std::isnan(*input.as_float()) ? otherwise : Value(truncated(*input.as_float()));
}

Value to_float(Interpreter&, const Value& input, Arguments arguments) {
  const Bound bound("float", std::move(arguments), {"default"});
  const Value otherwise = bound.has(0) ? bound[0] : Value(0.0);
  if (input.is_undefined()) fail_render(input.undefined_reason());
  if (input.is_number()) return Value(input.number());
  const auto value = input.as_text() ? parse_float(*input.as_text()) : std::nullopt;
  return value ? Value(*value) : otherwise;
}

Value absolute(Interpreter&, const Value& input, Arguments) {
  if (input.is_integral()) return input.integral() < 0 ? negate(input) : Value(input.integral());
  if (input.as_float()) return Value(std::fabs(*input.as_float()));
  fail_render("bad operand type for abs(): '", type_name(input), "'");
}

// Python rounds halves to even on the exact decimal value, which is what printf does.
double round_to(double value, int64_t precision) {
  if (!std::isfinite(value) || precision > 22) return value;
  if (precision < -308) return 0;
  if (precision < 0) {
    const double power = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(value / power) * power;
  }
  char buffer[400];
  std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(precision), value);
  return std::strtod(buffer, nullptr);
}

Value round_filter(Interpreter&, const Value& input, Arguments arguments) {
  const Bound bound("round", std::move(arguments), {"precision", "method"});
  const int64_t precision = bound.integer(0, 0);
  const std::string method = bound.has(1) ? bound.text(1).bytes() : "common";
  if (!input.is_number()) fail_render("type ", type_name(input), " cannot be rounded");
  if (method == "common") {
    if (input.is_integral() && precision >= 0) return Value(input.integral());
    const double rounded = round_to(input.number(), precision);
    return input.is_integral() ? Value(truncated(rounded)) : Value(rounded);
  }
  if (method != "ceil" && method != "floor") fail_render("round's method must be common, ceil or floor");
  const double power = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.number() * power;
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / power);
}

Value file_size(Interpreter&, const Value& input, Arguments arguments) {
  const Bound bound("filesizeformat", std::move(arguments), {"binary"});
  const bool is_binary = bound.flag(0, false);
  const auto parsed = input.is_number() ? std::optional<double>(input.number())
                      : input.as_text() ? parse_float(*input.as_text())
                                        : std::nullopt;
  if (!parsed) fail_render("filesizeformat needs a number, not ", type_name(input));
  const double base = is_binary ? 1024 : 1000;
  if (*parsed == 1) return Value::words("1 Byte");
  if (*parsed < base) return Value::words(concat(truncated(*parsed), " Bytes"));
  double unit = base;
  static constexpr std::string_view kPrefixes = "kMGTPEZY";
  for (size_t i = 0;; ++i) {
    unit *= base;
    if (*parsed >= unit && i + 1 < kPrefixes.size()) continue;
    char number[64];
    std::snprintf(number, sizeof number, "%.1f", base * *parsed / unit);
    const char letter = is_binary ? static_cast<char>(std::toupper(kPrefixes[i])) : kPrefixes[i];
    return Value::words(concat(number, " ", letter, is_binary ? "iB" : "B"));
  }
}

Value url_encode(Interpreter&, const Value& input, Arguments) {
  const auto quote = [](const Text& text, bool is_query) {
    Text result;
    for (size_t i = 0; i < text.size(); ++i) {
      const char c = text.bytes()[i];
      char buffer[8];
      if (std::isalnum(static_cast<unsigned char>(c)) || std::string_view("_.-~").find(c) != std::string_view::npos ||
          (c == '/' && !is_query)) {
        result.append(std::string(1, c), text.origin_at(i));
      } else if (c == ' ' && is_query) {
        result.append("+", text.origin_at(i));
      } else {
        std::snprintf(buffer, sizeof buffer, "%%%02X", static_cast<unsigned char>(c));
        result.append(buffer, text.origin_at(i));
      }
    }
    return result;
  };
  if (input.as_text() || !is_iterable(input)) return Value(quote(*to_text(input), false));
  Text result;
  const auto add = [&](const Value& key, const Value& value) {
    if (!result.empty()) result.append("&", Origin{});
    result.append(quote(*to_text(key), true));
    result.append("=", Origin{});
    result.append(quote(*to_text(value), true));
  };
  if (input.as_mapping()) {
    for (const auto& [key, value] : input.as_mapping()->entries) add(key, value);
    return Value(std::move(result));
  }
  for (const Value& pair : iterate(input)) {
    const std::vector<Value> parts = iterate(pair);
    if (parts.size() != 2) fail_render("urlencode needs pairs");
    add(parts[0], parts[1]);
  }
  return Value(std::move(result));
}

}  // namespace

const FilterTable& text_filters() {
  using I = Interpreter;
  using V = Value;
  using A = Arguments;
  static const FilterTable table = {
      {"trim", {trim}},
      {"replace", {replace_filter}},
      {"title", {title}},
      {"indent", {indent}},
      {"truncate", {truncate}},
      {"center", {center}},
      {"wordcount", {count_words}},
      {"escape", {escape}},
      {"e", {escape}},
      {"forceescape", {[](I&, const V& v, A) { return V(escape_html(*to_text(v))); }}},
      {"safe", {safe}},
      {"string", {to_string_filter}},
      {"format", {format_filter}},
      {"upper", {[](I&, const V& v, A) { return V(map_characters(*to_text(v), append_upper)); }}},
      {"lower", {[](I&, const V& v, A) { return V(map_characters(*to_text(v), append_lower)); }}},
      {"capitalize", {[](I&, const V& v, A) { return V(capitalize(*to_text(v))); }}},
      {"int", {to_int}},
      {"float", {to_float}},
      {"abs", {absolute}},
      {"round", {round_filter}},
      {"filesizeformat", {file_size}},
      {"urlencode", {url_encode}},
  };
  return table;
}

}  // namespace dsft::text::jinja

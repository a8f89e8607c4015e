// How Python prints values: str() and repr().
#include <charconv>
#include <cmath>
#include <cstdio>

#include "text/jinja_fault.h"
#include "text/jinja_unicode.h"
#include "text/jinja_value.h"

namespace dsft::text::jinja {

namespace {

void append_escaped(std::string& out, const Character& c, std::string_view text, char quote) {
  char buffer[16];
  switch (c.code) {
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      break;
  }
  if (c.code == quote) {
    out += '\\';
    out += quote;
  } else if (is_printable(c.code)) {
    out += text.substr(c.begin, c.end - c.begin);
  } else {
    const char* format = c.code < 0x100 ? "\\x%02x" : (c.code < 0x10000 ? "\\u%04x" : "\\U%08x");
    std::snprintf(buffer, sizeof buffer, format, static_cast<unsigned>(c.code));
    out += buffer;
  }
}

void represent_into(Text& out, const Value& value, int depth);

void represent_text_into(Text& out, const Text& text) {
  const char quote =
      text.bytes().find('\'') != std::string::npos && text.bytes().find('"') == std::string::npos ? '"' : '\'';
  const std::string_view bytes = text.bytes();
  if (text.is_markup) out.append("Markup(", Origin{});
  out.append(std::string(1, quote), text.origin_at(0));
  size_t begin = 0;
  for (const OriginRun& run : text.runs()) {
    std::string escaped;
    for (size_t at = begin; at < run.end;) {
      const Character c = character_at(bytes, at);
      append_escaped(escaped, c, bytes, quote);
      at = c.end;
      begin = at;
    }
    out.append(escaped, run.origin);
  }
  out.append(std::string(1, quote), text.empty() ? Origin{} : text.origin_at(text.size() - 1));
  if (text.is_markup) out.append(")", Origin{});
}

void represent_items_into(Text& out, const Sequence& sequence, int depth, std::string_view open,
                          std::string_view close) {
  out.append(open, sequence.origin);
  for (size_t i = 0; i < sequence.items.size(); ++i) {
    if (i > 0) out.append(", ", sequence.origin);
    represent_into(out, sequence.items[i], depth);
  }
  out.append(close, sequence.origin);
}

// From its items, so an empty range prints as range(0, 0).
void represent_range_into(Text& out, const Sequence& range) {
  const auto& items = range.items;
  const int64_t start = items.empty() ? 0 : items.front().integral();
  const int64_t step = items.size() > 1 ? items[1].integral() - start : 1;
  int64_t stop = 0;
  if (!items.empty() && __builtin_add_overflow(items.back().integral(), step, &stop))
    stop = step > 0 ? INT64_MAX : INT64_MIN;
  out.append(
      step == 1 ? concat("range(", start, ", ", stop, ")") : concat("range(", start, ", ", stop, ", ", step, ")"),
      Origin{});
}

void represent_sequence_into(Text& out, const Sequence& sequence, int depth) {
  switch (sequence.type) {
    case SequenceType::kList:
      return represent_items_into(out, sequence, depth, "[", "]");
    case SequenceType::kKeys:
      return represent_items_into(out, sequence, depth, "dict_keys([", "])");
    case SequenceType::kValues:
      return represent_items_into(out, sequence, depth, "dict_values([", "])");
    case SequenceType::kItems:
      return represent_items_into(out, sequence, depth, "dict_items([", "])");
    case SequenceType::kRange:
      return represent_range_into(out, sequence);
    case SequenceType::kGenerator:
      fail_render("a generator is printed: apply the list filter or join to it first");
    default:
      return represent_items_into(out, sequence, depth, "(", sequence.items.size() == 1 ? ",)" : ")");
  }
}

void represent_mapping_into(Text& out, const Mapping& mapping, int depth) {
  out.append("{", mapping.origin);
  bool is_first = true;
  for (const auto& [key, value] : mapping.entries) {
    if (!is_first) out.append(", ", mapping.origin);
    is_first = false;
    represent_into(out, key, depth);
    out.append(": ", mapping.origin);
    represent_into(out, value, depth);
  }
  out.append("}", mapping.origin);
}

void represent_into(Text& out, const Value& value, int depth) {
  if (value.is_undefined()) {
    out.append("Undefined", Origin{});
  } else if (value.is_none()) {
    out.append("None", Origin{});
  } else if (value.as_bool()) {
    out.append(*value.as_bool() ? "True" : "False", Origin{});
  } else if (value.as_int()) {
    out.append(std::to_string(*value.as_int()), Origin{});
  } else if (value.as_float()) {
    out.append(represent_float(*value.as_float()), Origin{});
  } else if (value.as_text()) {
    represent_text_into(out, *value.as_text());
  } else if (value.as_sequence()) {
    represent_sequence_into(out, *value.as_sequence(), depth);
  } else if (value.as_mapping()) {
    represent_mapping_into(out, *value.as_mapping(), depth);
  } else {
    out.append(value.as_object()->representation(depth), Origin{});
  }
}

}  // namespace

std::string represent_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string scientific(buffer, end);
  const size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (exponent < -4 || exponent >= 16) {
    char power[16];
    std::snprintf(power, sizeof power, "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
    return scientific.substr(0, e) + power;
  }
  const auto fixed_end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  std::string fixed(buffer, fixed_end);
  if (fixed.find('.') == std::string::npos) fixed += ".0";
  return fixed;
}

std::string represent_string(std::string_view text) {
  return represent(Value::words(std::string(text))).bytes();
}

Text represent(const Value& value, int depth) {
  Text out;
  represent_into(out, value, depth);
  return out;
}

TextPtr to_text(const Value& value) {
  if (value.as_text()) return value.text_ptr();
  if (value.is_undefined()) return std::make_shared<const Text>();
  return std::make_shared<const Text>(represent(value));
}

std::string to_string(const Value& value) {
  return to_text(value)->bytes();
}

}  // namespace dsft::text::jinja

#include "text/jinja_json.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "io/json.h"
#include "text/jinja_fault.h"
#include "text/jinja_unicode.h"

namespace dsft::text::jinja {

namespace {

using Json = nlohmann::ordered_json;

/// An integer of the row that 64 bits do not hold: it can be printed, as Python prints it, and nothing else.
struct LongInteger : Object {
  std::string digits;
  std::string type_name() const override { return "int"; }
  std::string representation(int) const override { return digits; }
  bool is_callable() const override { return false; }
};

Value long_integer(std::string digits) {
  auto number = std::make_shared<LongInteger>();
  number->digits = std::move(digits);
  return Value(std::shared_ptr<Object>(std::move(number)));
}

Value value_at_depth(const Json& json, Origin origin, int depth) {
  if (depth >= kMaxNesting) fail_render("the row's JSON nests deeper than ", kMaxNesting, " levels");
  switch (json.type()) {
    case Json::value_t::string:
      return Value(Text(json.get_ref<const std::string&>(), origin));
    case Json::value_t::boolean:
      return Value(json.get<bool>());
    case Json::value_t::number_integer:
      return Value(json.get<int64_t>());
    case Json::value_t::number_unsigned: {
      const auto number = json.get<uint64_t>();
      if (number > static_cast<uint64_t>(INT64_MAX)) return long_integer(std::to_string(number));
      return Value(static_cast<int64_t>(number));
    }
    case Json::value_t::binary: {
      const auto* digits = io::as_long_integer(json);
      return long_integer({digits->begin(), digits->end()});
    }
    case Json::value_t::number_float:
      return Value(json.get<double>());
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(value_at_depth(item, origin, depth + 1));
      auto list = make_sequence(SequenceType::kList, std::move(items));
      list->origin = origin;
      return Value(std::shared_ptr<const Sequence>(std::move(list)));
    }
    case Json::value_t::object: {
      Mapping mapping;
      mapping.origin = origin;
      for (const auto& [key, item] : json.items()) {
        mapping.entries.emplace_back(Value(Text(key, origin)), value_at_depth(item, origin, depth + 1));
      }
      return make_mapping(std::move(mapping));
    }
    default:
      return Value();
  }
}

class Dumper {
 public:
  explicit Dumper(const JsonStyle& style) : style_(style) {}

  Text run(const Value& value) {
    write(value, 0);
    return std::move(out_);
  }

 private:
  void write(const Value& value, int level) {
    if (value.as_text()) return write_text(*value.as_text());
    if (value.as_sequence()) return write_sequence(*value.as_sequence(), level);
    if (value.as_mapping()) return write_mapping(*value.as_mapping(), level);
    out_.append(scalar(value), Origin{});
  }

  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.as_bool()) return *value.as_bool() ? "true" : "false";
    if (value.as_int()) return std::to_string(*value.as_int());
    if (const auto* number = dynamic_cast<const LongInteger*>(value.as_object())) return number->digits;
    if (!value.as_float()) fail_render("object of type ", type_name(value), " is not JSON serializable");
    const double number = *value.as_float();
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
    return represent_float(number);
  }

  std::string escaped(const Character& c, std::string_view bytes) const {
    char buffer[16];
    switch (c.code) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\f':
        return "\\f";
      case '\b':
        return "\\b";
      default:
        break;
    }
    if (c.code >= 0x20 && (!style_.ensure_ascii || c.code < 0x7F))
      return std::string(bytes.substr(c.begin, c.end - c.begin));
    if (c.code >= 0x10000) {
      const unsigned high = 0xD800u + ((static_cast<unsigned>(c.code) - 0x10000u) >> 10);
      const unsigned low = 0xDC00u + ((static_cast<unsigned>(c.code) - 0x10000u) & 0x3FFu);
      std::snprintf(buffer, sizeof buffer, "\\u%04x\\u%04x", high, low);
    } else {
      std::snprintf(buffer, sizeof buffer, "\\u%04x", static_cast<unsigned>(c.code));
    }
    return buffer;
  }

  void write_text(const Text& text) {
    out_.append("\"", text.origin_at(0));
    size_t at = 0;
    for (const OriginRun& run : text.runs()) {
      std::string part;
      while (at < run.end) {
        const Character c = character_at(text.bytes(), at);
        part += escaped(c, text.bytes());
        at = c.end;
      }
      out_.append(part, run.origin);
    }
    out_.append("\"", text.empty() ? Origin{} : text.origin_at(text.size() - 1));
  }

  void write_newline(int level, Origin origin) {
    if (!style_.is_indented) return;
    out_.append("\n", origin);
    for (int i = 0; i < level; ++i) out_.append(style_.indent, origin);
  }

  void write_sequence(const Sequence& sequence, int level) {
    if (!sequence.has_length() || sequence.type == SequenceType::kRange || sequence.type == SequenceType::kKeys ||
        sequence.type == SequenceType::kValues || sequence.type == SequenceType::kItems) {
      fail_render("object of type ", type_name(Value(std::make_shared<const Sequence>(sequence))),
                  " is not JSON serializable");
    }
    out_.append("[", sequence.origin);
    for (size_t i = 0; i < sequence.items.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator, sequence.origin);
      write_newline(level + 1, sequence.origin);
      write(sequence.items[i], level + 1);
    }
    if (!sequence.items.empty()) write_newline(level, sequence.origin);
    out_.append("]", sequence.origin);
  }

  void write_key(const Value& key) {
    if (key.as_text()) return write_text(*key.as_text());
    if (!key.is_none() && !key.is_number())
      fail_render("keys of a JSON object must be str, int, float, bool or None, not ", type_name(key));
    out_.append("\"" + scalar(key) + "\"", Origin{});
  }

  void write_mapping(const Mapping& mapping, int level) {
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : mapping.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return compare(a->first, b->first, "<") < 0; });
    }
    out_.append("{", mapping.origin);
    bool is_first = true;
    for (const auto* entry : entries) {
      if (!is_first) out_.append(style_.item_separator, mapping.origin);
      is_first = false;
      write_newline(level + 1, mapping.origin);
      write_key(entry->first);
      out_.append(style_.key_separator, mapping.origin);
      write(entry->second, level + 1);
    }
    if (!entries.empty()) write_newline(level, mapping.origin);
    out_.append("}", mapping.origin);
  }

  const JsonStyle& style_;
  Text out_;
};

}  // namespace

Value value_of_json(const nlohmann::ordered_json& json, Origin origin) {
  return value_at_depth(json, origin, 0);
}

Text dump_json(const Value& value, const JsonStyle& style) {
  return Dumper(style).run(value);
}

}  // namespace dsft::text::jinja

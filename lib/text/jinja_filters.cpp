#include "text/jinja_filters.h"

#include "text/jinja_fault.h"
#include "text/jinja_json.h"
#include "text/jinja_objects.h"

namespace dsft::text::jinja {

namespace {

// json.dumps with transformers' own defaults: no HTML escaping, ensure_ascii off.
Value to_json(Interpreter& interpreter, const Value& input, Arguments arguments) {
  const Bound bound("tojson", std::move(arguments), {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.flag(0, false);
  style.sort_keys = bound.flag(3, false);
  if (bound.is_given(1)) {
    style.is_indented = true;
    style.item_separator = ",";
    if (bound[1].as_text()) {
      style.indent = bound[1].as_text()->bytes();
    } else {
      const int64_t width = bound.integer(1, 0);
      if (width > 1024) fail_render("tojson(indent=", width, ") indents too far");
      style.indent.assign(width > 0 ? static_cast<size_t>(width) : 0, ' ');
    }
  }
  if (bound.is_given(2)) {
    const std::vector<Value> separators = iterate(bound[2]);
    if (separators.size() != 2 || !separators[0].as_text() || !separators[1].as_text())
      fail_render("tojson(separators=...) needs two strings");
    style.item_separator = separators[0].as_text()->bytes();
    style.key_separator = separators[1].as_text()->bytes();
  }
  Text json = dump_json(input, style);
  interpreter.charge(json.size() / 64);
  return Value(std::move(json));
}

Value default_value(Interpreter&, const Value& input, Arguments arguments) {
  const Bound bound("default", std::move(arguments), {"default_value", "boolean"});
  const bool is_replaced = input.is_undefined() || (bound.flag(1, false) && !is_true(input));
  if (!is_replaced) return input;
  return bound.has(0) ? bound[0] : Value(Text());
}

Value attr(Interpreter& interpreter, const Value& input, Arguments arguments) {
  const Bound bound("attr", std::move(arguments), {"name"}, 1);
  if (input.as_mapping()) {
    // attr looks at Python attributes only, never at keys.
    Mapping empty;
    return interpreter.attribute_of(make_mapping(std::move(empty)), bound.text(0).bytes());
  }
  return interpreter.attribute_of(input, bound.text(0).bytes());
}

const FilterTable& value_filters() {
  static const FilterTable table = {
      {"tojson", {to_json}}, {"default", {default_value}}, {"d", {default_value}}, {"attr", {attr}}};
  return table;
}

}  // namespace

const Filter* find_filter(const std::string& name) {
  for (const FilterTable* table : {&value_filters(), &text_filters(), &sequence_filters()}) {
    const auto it = table->find(name);
    if (it != table->end()) return &it->second;
  }
  return nullptr;
}

}  // namespace dsft::text::jinja

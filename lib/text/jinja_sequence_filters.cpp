// Filters of lists, dicts and other iterables.
#include <algorithm>

#include "text/jinja_fault.h"
#include "text/jinja_filters.h"
#include "text/jinja_objects.h"
#include "text/jinja_operators.h"
#include "text/jinja_string_operations.h"
#include "text/jinja_unicode.h"

namespace dsft::text::jinja {

namespace {

std::vector<Value> items_of(Interpreter& interpreter, const Value& input) {
  std::vector<Value> items = iterate(input);
  interpreter.charge(items.size() / 8);
  return items;
}

Value without_case(const Value& value) {
  return value.as_text() ? Value(map_characters(*value.as_text(), append_lower)) : value;
}

// The value that sort, unique, min and the like compare items by.
Value key_of(Interpreter& interpreter, const Value& item, const Value* attribute, bool is_case_sensitive) {
  const Value key = attribute ? interpreter.item_at_path(item, *attribute) : item;
  interpreter.charge_for(key);
  return is_case_sensitive ? key : without_case(key);
}

// sort's key: the values of the comma-separated attributes, as a list.
Value sort_key_of(Interpreter& interpreter, const Value& item, const Value* attribute, bool is_case_sensitive) {
  if (!attribute || !attribute->as_text()) return make_list({key_of(interpreter, item, attribute, is_case_sensitive)});
  std::vector<Value> keys;
  const std::string& names = attribute->as_text()->bytes();
  for (size_t begin = 0; begin <= names.size();) {
    const size_t end = std::min(names.find(',', begin), names.size());
    const Value name = Value::words(names.substr(begin, end - begin));
    keys.push_back(key_of(interpreter, item, &name, is_case_sensitive));
    begin = end + 1;
  }
  return make_list(std::move(keys));
}

struct Keyed {
  Value key;
  Value item;
};

void sort_keyed(Interpreter& interpreter, std::vector<Keyed>& keyed, bool is_reversed) {
  interpreter.charge(keyed.size());
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    return is_reversed ? compare(b.key, a.key, "<") < 0 : compare(a.key, b.key, "<") < 0;
  });
}

std::vector<Value> take_items(std::vector<Keyed>& keyed) {
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (Keyed& entry : keyed) items.push_back(std::move(entry.item));
  return items;
}

Value sort(Interpreter& interpreter, const Value& input, Arguments arguments) {
  const Bound bound("sort", std::move(arguments), {"reverse", "case_sensitive", "attribute"});
  const Value* attribute = bound.is_given(2) ? &bound[2] : nullptr;
  std::vector<Keyed> keyed;
  for (const Value& item : items_of(interpreter, input))
    keyed.push_back({sort_key_of(interpreter, item, attribute, bound.flag(1, false)), item});
  sort_keyed(interpreter, keyed, bound.flag(0, false));
  return make_list(take_items(keyed));
}

Value sort_dict(Interpreter& interpreter, const Value& input, Arguments arguments) {
  const Bound bound("dictsort", std::move(arguments), {"case_sensitive", "by", "reverse"});
  const std::string by = bound.has(1) ? bound.text(1).bytes() : "key";
  if (by != "key" && by != "value") fail_render("dictsort can only sort by \"key\" or \"value\"");
  if (input.is_undefined()) fail_render(input.undefined_reason());
  if (!input.as_mapping()) fail_render("dictsort needs a dict, not ", type_name(input));
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : input.as_mapping()->entries) {
    const Value& chosen = by == "key" ? key : value;
    keyed.push_back({bound.flag(0, false) ? chosen : without_case(chosen), make_tuple({key, value})});
  }
  sort_keyed(interpreter, keyed, bound.flag(2, false));
  return make_list(take_items(keyed));
}

Value unique(Interpreter& interpreter, const Value& input, Arguments arguments) {
  const Bound bound("unique", std::move(arguments), {"case_sensitive", "attribute"});
  const Value* attribute = bound.is_given(1) ? &bound[1] : nullptr;
  std::vector<Value> seen, items;
  for (const Value& item : items_of(interpreter, input)) {
    const Value key = key_of(interpreter, item, attribute, bound.flag(0, false));
    require_hashable(key);
    interpreter.charge(seen.size() / 16);
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& other) { return equals(other, key); })) continue;
    seen.push_back(key);
    items.push_back(item);
  }
  return make_generator(std::move(items));
}

Value extreme(Interpreter& interpreter, const Value& input, Arguments arguments, const char* name, int sign) {
  const Bound bound(name, std::move(arguments), {"case_sensitive", "attribute"});
  const Value* attribute = bound.is_given(1) ? &bound[1] : nullptr;
  const std::vector<Value> items = items_of(interpreter, input);
  if (items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  size_t best = 0;
  Value best_key = key_of(interpreter, items[0], attribute, bound.flag(0, false));
  for (size_t i = 1; i < items.size(); ++i) {
    Value key = key_of(interpreter, items[i], attribute, bound.flag(0, false));
    if (sign * compare(key, best_key, sign < 0 ? "<" : ">") <= 0) continue;
    best = i;
    best_key = std::move(key);
  }
  return items[best];
}

Value sum(Interpreter& interpreter, const Value& input, Arguments arguments) {
  const Bound bound("sum", std::move(arguments), {"attribute", "start"});
  Value total = bound.has(1) ? bound[1] : Value(int64_t{0});
  for (const Value& item : items_of(interpreter, input)) {
    total =
        apply_operator(interpreter, "+", total, bound.is_given(0) ? interpreter.item_at_path(item, bound[0]) : item);
  }
  return total;
}

Value join_filter(Interpreter& interpreter, const Value& input, Arguments arguments) {
  const Bound bound("join", std::move(arguments), {"d", "attribute"});
  std::vector<Value> items = items_of(interpreter, input);
  if (bound.is_given(1)) {
    for (Value& item : items) item = interpreter.item_at_path(item, bound[1]);
  }
  Text joined = join(bound.has(0) ? *to_text(bound[0]) : Text(), items);
  interpreter.charge(joined.size() / 256);
  return Value(std::move(joined));
}

Value first(Interpreter&, const Value& input, Arguments) {
  const Sequence* sequence = input.as_sequence();
  if (sequence && sequence->type == SequenceType::kGenerator) {
    if (sequence->consumed < sequence->items.size()) return sequence->items[sequence->consumed++];
    return Value::undefined("No first item, sequence was empty.");
  }
  const std::vector<Value> items = iterate(input);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(Interpreter&, const Value& input, Arguments) {
  const Sequence* sequence = input.as_sequence();
  if (sequence && sequence->type == SequenceType::kGenerator) fail_render("'generator' object is not reversible");
  const std::vector<Value> items = iterate(input);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value reverse(Interpreter& interpreter, const Value& input, Arguments) {
  if (input.as_text()) return slice_of(input, Value(), Value(), Value(int64_t{-1}));
  std::vector<Value> items = items_of(interpreter, input);
  std::reverse(items.begin(), items.end());
  return make_generator(std::move(items));
}

Value batch(Interpreter& interpreter, const Value& input, Arguments arguments) {
  const Bound bound("batch", std::move(arguments), {"linecount", "fill_with"}, 1);
  const int64_t size = bound.integer(0, 1);
  std::vector<Value> lines, line;
  for (Value& item : items_of(interpreter, input)) {
    if (static_cast<int64_t>(line.size()) == size) lines.push_back(make_list(std::exchange(line, {})));
    line.push_back(std::move(item));
  }
  if (!line.empty()) {
    if (size > static_cast<int64_t>(kMaxItems)) fail_render("batch(", size, ") is too large");
    while (bound.is_given(1) && static_cast<int64_t>(line.size()) < size) line.push_back(bound[1]);
    lines.push_back(make_list(std::move(line)));
  }
  return make_generator(std::move(lines));
}

Value slice(Interpreter& interpreter, const Value& input, Arguments arguments) {
  const Bound bound("slice", std::move(arguments), {"slices", "fill_with"}, 1);
  const std::vector<Value> items = items_of(interpreter, input);
  const int64_t slices = bound.integer(0, 1);
  if (slices == 0) fail_render("integer division or modulo by zero");
  if (slices > static_cast<int64_t>(kMaxItems)) fail_render("slice(", slices, ") is too large");
  const auto length = static_cast<int64_t>(items.size());
  std::vector<Value> columns;
  int64_t at = 0;
  for (int64_t i = 0; i < slices; ++i) {
    const int64_t size = length / slices + (i < length % slices ? 1 : 0);
    std::vector<Value> column(items.begin() + at, items.begin() + at + size);
    if (bound.is_given(1) && i >= length % slices) column.push_back(bound[1]);
    columns.push_back(make_list(std::move(column)));
    at += size;
  }
  return make_generator(std::move(columns));
}

Value group(Interpreter& interpreter, const Value& input, Arguments arguments) {
  const Bound bound("groupby", std::move(arguments), {"attribute", "default", "case_sensitive"}, 1);
  const auto raw_key = [&](const Value& item) {
    return interpreter.item_at_path(item, bound[0], bound.is_given(1) ? &bound[1] : nullptr);
  };
  std::vector<Keyed> keyed;
  for (const Value& item : items_of(interpreter, input)) {
    const Value key = raw_key(item);
    keyed.push_back({bound.flag(2, false) ? key : without_case(key), item});
  }
  sort_keyed(interpreter, keyed, false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < keyed.size();) {
    size_t end = begin;
    std::vector<Value> members;
    while (end < keyed.size() && equals(keyed[end].key, keyed[begin].key)) members.push_back(keyed[end++].item);
    const Value key = raw_key(members.front());
    groups.emplace_back(
        std::shared_ptr<const Sequence>(make_sequence(SequenceType::kGroup, {key, make_list(std::move(members))})));
    begin = end;
  }
  return make_list(std::move(groups));
}

Value map(Interpreter& interpreter, const Value& input, Arguments arguments) {
  std::vector<Value> results;
  if (!is_true(input)) return make_generator({});
  const std::vector<Value> items = items_of(interpreter, input);
  Value attribute;
  if (arguments.positional.empty() && arguments.take("attribute", attribute)) {
    Value otherwise;
    arguments.take("default", otherwise);
    if (!arguments.keywords.empty())
      fail_render("map got an unexpected keyword argument '", arguments.keywords.front().first, "'");
    for (const Value& item : items)
      results.push_back(interpreter.item_at_path(item, attribute, otherwise.is_none() ? nullptr : &otherwise));
    return make_generator(std::move(results));
  }
  if (arguments.positional.empty() || !arguments.positional.front().as_text())
    fail_render("map needs the name of a filter");
  const std::string name = arguments.positional.front().as_text()->bytes();
  arguments.positional.erase(arguments.positional.begin());
  for (const Value& item : items) results.push_back(interpreter.apply_filter(name, item, arguments));
  return make_generator(std::move(results));
}

enum class Keep { kPassing, kFailing };
enum class Subject { kItem, kAttribute };

template <Keep keep, Subject subject>
Value select(Interpreter& interpreter, const Value& input, Arguments arguments) {
  if (!is_true(input)) return make_generator({});
  Value attribute;
  if (subject == Subject::kAttribute) {
    if (arguments.positional.empty()) fail_render("selectattr and rejectattr need the name of an attribute");
    attribute = arguments.positional.front();
    arguments.positional.erase(arguments.positional.begin());
  }
  std::string test;
  if (!arguments.positional.empty()) {
    if (!arguments.positional.front().as_text()) fail_render("select and reject need the name of a test");
    test = arguments.positional.front().as_text()->bytes();
    arguments.positional.erase(arguments.positional.begin());
  }
  std::vector<Value> kept;
  for (const Value& item : items_of(interpreter, input)) {
    const Value value = subject == Subject::kAttribute ? interpreter.item_at_path(item, attribute) : item;
    const bool passes = test.empty() ? is_true(value) : interpreter.apply_test(test, value, arguments);
    if (passes == (keep == Keep::kPassing)) kept.push_back(item);
  }
  return make_generator(std::move(kept));
}

Value items_filter(Interpreter& interpreter, const Value& input, Arguments) {
  if (input.is_undefined()) return make_generator({});
  if (!input.as_mapping()) fail_render("can only get item pairs from a mapping, not from ", type_name(input));
  return make_generator(items_of(interpreter, interpreter.call(interpreter.attribute_of(input, "items"), {})));
}

Value to_list(Interpreter& interpreter, const Value& input, Arguments) {
  const Origin origin = input.as_sequence() ? input.as_sequence()->origin : Origin{};
  auto list = make_sequence(SequenceType::kList, items_of(interpreter, input));
  list->origin = origin;
  return Value(std::shared_ptr<const Sequence>(std::move(list)));
}

Value length(Interpreter&, const Value& input, Arguments) {
  return Value(length_of(input));
}

}  // namespace

const FilterTable& sequence_filters() {
  using I = Interpreter;
  using V = Value;
  using A = Arguments;
  static const FilterTable table = {
      {"sort", {sort}},
      {"dictsort", {sort_dict}},
      {"unique", {unique}},
      {"min", {[](I& i, const V& v, A a) { return extreme(i, v, std::move(a), "min", -1); }}},
      {"max", {[](I& i, const V& v, A a) { return extreme(i, v, std::move(a), "max", 1); }}},
      {"sum", {sum}},
      {"join", {join_filter}},
      {"first", {first}},
      {"last", {last}},
      {"reverse", {reverse}},
      {"batch", {batch}},
      {"slice", {slice}},
      {"groupby", {group}},
      {"map", {map}},
      {"select", {select<Keep::kPassing, Subject::kItem>}},
      {"reject", {select<Keep::kFailing, Subject::kItem>}},
      {"selectattr", {select<Keep::kPassing, Subject::kAttribute>}},
      {"rejectattr", {select<Keep::kFailing, Subject::kAttribute>}},
      {"items", {items_filter}},
      {"list", {to_list}},
      {"length", {length}},
      {"count", {length}},
  };
  return table;
}

}  // namespace dsft::text::jinja

#include "text/jinja_methods.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "text/jinja_fault.h"
#include "text/jinja_objects.h"
#include "text/jinja_string_methods.h"

namespace dsft::text::jinja {

namespace {

template <size_t N>
bool is_one_of(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Value unsafe(const Value& object, const std::string& name) {
  return Value::undefined(concat("access to attribute '", name, "' of '", type_name(object),
                                 "' object is unsafe: values of a template cannot be changed"));
}

Value view_of(const Value& object, SequenceType type) {
  const Mapping& mapping = *object.as_mapping();
  std::vector<Value> items;
  items.reserve(mapping.entries.size());
  for (const auto& [key, value] : mapping.entries) {
    items.push_back(type == SequenceType::kKeys     ? key
                    : type == SequenceType::kValues ? value
                                                    : make_tuple({key, value}));
  }
  auto view = make_sequence(type, std::move(items));
  view->origin = mapping.origin;
  return Value(std::shared_ptr<const Sequence>(std::move(view)));
}

Value get(const Value& object, Arguments arguments) {
  const Bound bound("get", std::move(arguments), {"key", "default"}, 1);
  require_hashable(bound[0]);
  if (const Value* value = object.as_mapping()->find(bound[0])) return *value;
  return bound.has(1) ? bound[1] : Value();
}

bool find_dict_method(const Value& object, const std::string& name, Value& method) {
  static constexpr std::array<std::string_view, 5> kUnsafe = {"clear", "pop", "popitem", "setdefault", "update"};
  if (is_one_of(kUnsafe, name)) {
    method = unsafe(object, name);
  } else if (name == "items" || name == "keys" || name == "values") {
    const SequenceType type = name == "items"  ? SequenceType::kItems
                              : name == "keys" ? SequenceType::kKeys
                                               : SequenceType::kValues;
    method = make_method(name, object, [object, type, name](Interpreter&, Arguments arguments) {
      const Bound bound(name, std::move(arguments), {});
      return view_of(object, type);
    });
  } else if (name == "get") {
    method = make_method(name, object,
                         [object](Interpreter&, Arguments arguments) { return get(object, std::move(arguments)); });
  } else if (name == "copy") {
    method = make_method(name, object, [object](Interpreter&, Arguments) { return object; });
  } else {
    return false;
  }
  return true;
}

Value index_of(const Value& object, Arguments arguments) {
  const Bound bound("index", std::move(arguments), {"value"}, 1);
  const auto& items = object.as_sequence()->items;
  const auto it = std::find_if(items.begin(), items.end(), [&](const Value& item) { return equals(item, bound[0]); });
  if (it == items.end()) fail_render(represent(bound[0]).bytes(), " is not in list");
  return Value(static_cast<int64_t>(it - items.begin()));
}

Value count_of(const Value& object, Arguments arguments) {
  const Bound bound("count", std::move(arguments), {"value"}, 1);
  const auto& items = object.as_sequence()->items;
  return Value(static_cast<int64_t>(
      std::count_if(items.begin(), items.end(), [&](const Value& item) { return equals(item, bound[0]); })));
}

bool find_sequence_method(const Value& object, const std::string& name, Value& method) {
  static constexpr std::array<std::string_view, 8> kUnsafe = {"append", "clear", "pop",    "reverse",
                                                              "insert", "sort",  "extend", "remove"};
  const Sequence& sequence = *object.as_sequence();
  if (sequence.type == SequenceType::kGroup && (name == "grouper" || name == "list")) {
    method = sequence.items[name == "grouper" ? 0 : 1];
    return true;
  }
  if (!sequence.is_indexable()) return false;
  if (sequence.type == SequenceType::kList && is_one_of(kUnsafe, name)) {
    method = unsafe(object, name);
  } else if (name == "index") {
    method = make_method(
        name, object, [object](Interpreter&, Arguments arguments) { return index_of(object, std::move(arguments)); });
  } else if (name == "count") {
    method = make_method(
        name, object, [object](Interpreter&, Arguments arguments) { return count_of(object, std::move(arguments)); });
  } else if (name == "copy" && sequence.type == SequenceType::kList) {
    method = make_method(name, object, [object](Interpreter&, Arguments) { return object; });
  } else {
    return false;
  }
  return true;
}

}  // namespace

bool find_method(const Value& object, const std::string& name, Value& method) {
  if (object.as_text()) return find_string_method(object.text_ptr(), name, method);
  if (object.as_mapping()) return find_dict_method(object, name, method);
  if (object.as_sequence()) return find_sequence_method(object, name, method);
  if (object.as_float() && name == "is_integer") {
    method = make_method(name, object, [object](Interpreter&, Arguments) {
      return Value(std::floor(*object.as_float()) == *object.as_float());
    });
    return true;
  }
  return false;
}

}  // namespace dsft::text::jinja

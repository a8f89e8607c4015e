#include "text/jinja_value.h"

#include <algorithm>
#include <cmath>

#include "text/jinja_fault.h"
#include "text/jinja_unicode.h"

namespace dsft::text::jinja {

namespace {

constexpr size_t kBytesPerWeight = 64;

bool is_hashable(const Value& value) {
  return !value.as_mapping() && (!value.as_sequence() || value.as_sequence()->is_hashable);
}

void require_weight(size_t weight) {
  if (weight > kMaxWeight) fail_render("a value has more than ", kMaxWeight, " parts");
}

}  // namespace

Value Value::undefined(std::string reason) {
  return Value(Undefined{std::make_shared<const std::string>(std::move(reason))});
}

Value Value::words(std::string bytes) {
  return Value(Text(std::move(bytes), Origin{}));
}

const Text* Value::as_text() const {
  const auto* text = std::get_if<TextPtr>(&content_);
  return text ? text->get() : nullptr;
}

const Sequence* Value::as_sequence() const {
  const auto* sequence = std::get_if<std::shared_ptr<const Sequence>>(&content_);
  return sequence ? sequence->get() : nullptr;
}

const Mapping* Value::as_mapping() const {
  const auto* mapping = std::get_if<std::shared_ptr<const Mapping>>(&content_);
  return mapping ? mapping->get() : nullptr;
}

Object* Value::as_object() const {
  const auto* object = std::get_if<std::shared_ptr<Object>>(&content_);
  return object ? object->get() : nullptr;
}

bool Value::is_same(const Value& other) const {
  if (content_.index() != other.content_.index()) return false;
  if (as_sequence()) return as_sequence() == other.as_sequence();
  if (as_mapping()) return as_mapping() == other.as_mapping();
  if (as_object()) return as_object() == other.as_object();
  if (as_text()) return as_text()->bytes() == other.as_text()->bytes();
  return equals(*this, other);
}

const Value* Mapping::find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    const Text* text = name.as_text();
    if (text && text->bytes() == key) return &value;
  }
  return nullptr;
}

const Value* Mapping::find(const Value& key) const {
  if (const Text* text = key.as_text()) return find(std::string_view(text->bytes()));
  for (const auto& [name, value] : entries) {
    if (equals(name, key)) return &value;
  }
  return nullptr;
}

void Mapping::set(Value key, Value value) {
  require_hashable(key);
  if (const Value* present = find(key)) {
    *const_cast<Value*>(present) = std::move(value);
  } else {
    entries.emplace_back(std::move(key), std::move(value));
  }
}

bool Arguments::take(std::string_view name, Value& value) {
  for (auto it = keywords.begin(); it != keywords.end(); ++it) {
    if (it->first != name) continue;
    value = std::move(it->second);
    keywords.erase(it);
    return true;
  }
  return false;
}

Value Object::call(Interpreter&, Arguments) {
  fail_render("'", type_name(), "' object is not callable");
}

int nesting_around(const Value& value) {
  const int inner = value.as_sequence()  ? value.as_sequence()->nesting
                    : value.as_mapping() ? value.as_mapping()->nesting
                    : value.as_object()  ? value.as_object()->nesting
                                         : 0;
  const int nesting = inner + 1;
  if (nesting > kMaxNesting) fail_render("a value nests deeper than ", kMaxNesting, " levels");
  return nesting;
}

size_t weight_of(const Value& value) {
  if (const Text* text = value.as_text()) return 1 + text->size() / kBytesPerWeight;
  if (value.as_sequence()) return value.as_sequence()->weight;
  return value.as_mapping() ? value.as_mapping()->weight : 1;
}

std::shared_ptr<Sequence> make_sequence(SequenceType type, std::vector<Value> items) {
  if (items.size() > kMaxItems) fail_render("a list has more than ", kMaxItems, " elements");
  auto sequence = std::make_shared<Sequence>();
  sequence->type = type;
  sequence->is_hashable = type != SequenceType::kList;
  for (const Value& item : items) {
    sequence->nesting = std::max(sequence->nesting, nesting_around(item));
    sequence->weight += weight_of(item);
    sequence->is_hashable = sequence->is_hashable && is_hashable(item);
  }
  require_weight(sequence->weight);
  sequence->items = std::move(items);
  return sequence;
}

Value make_list(std::vector<Value> items) {
  return Value(std::shared_ptr<const Sequence>(make_sequence(SequenceType::kList, std::move(items))));
}

Value make_tuple(std::vector<Value> items) {
  return Value(std::shared_ptr<const Sequence>(make_sequence(SequenceType::kTuple, std::move(items))));
}

Value make_generator(std::vector<Value> items) {
  return Value(std::shared_ptr<const Sequence>(make_sequence(SequenceType::kGenerator, std::move(items))));
}

Value make_mapping(Mapping mapping) {
  if (mapping.entries.size() > kMaxItems) fail_render("a dict has more than ", kMaxItems, " entries");
  size_t weight = 1;
  for (const auto& [key, value] : mapping.entries) {
    mapping.nesting = std::max({mapping.nesting, nesting_around(key), nesting_around(value)});
    weight += weight_of(key) + weight_of(value);
  }
  require_weight(weight);
  mapping.weight = weight;
  return Value(std::make_shared<const Mapping>(std::move(mapping)));
}

std::string type_name(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "NoneType";
  if (value.as_bool()) return "bool";
  if (value.as_int()) return "int";
  if (value.as_float()) return "float";
  if (value.as_text()) return "str";
  if (value.as_mapping()) return "dict";
  if (value.as_object()) return value.as_object()->type_name();
  switch (value.as_sequence()->type) {
    case SequenceType::kList:
      return "list";
    case SequenceType::kRange:
      return "range";
    case SequenceType::kGenerator:
      return "generator";
    case SequenceType::kKeys:
      return "dict_keys";
    case SequenceType::kValues:
      return "dict_values";
    case SequenceType::kItems:
      return "dict_items";
    default:
      return "tuple";
  }
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.as_text() || value.as_sequence() || value.as_mapping();
}

std::vector<Value> iterate(const Value& value) {
  if (value.is_undefined()) return {};
  std::vector<Value> items;
  if (const Sequence* sequence = value.as_sequence()) {
    if (sequence->type != SequenceType::kGenerator) return sequence->items;
    items.assign(sequence->items.begin() + static_cast<std::ptrdiff_t>(sequence->consumed), sequence->items.end());
    sequence->consumed = sequence->items.size();
    return items;
  }
  if (const Mapping* mapping = value.as_mapping()) {
    for (const auto& entry : mapping->entries) items.push_back(entry.first);
    return items;
  }
  if (const Text* text = value.as_text()) {
    for (const Character& c : characters_of(text->bytes())) {
      if (items.size() == kMaxItems) fail_render("a string of more than ", kMaxItems, " characters is iterated");
      items.emplace_back(text->slice(c.begin, c.end));
    }
    return items;
  }
  fail_render("'", type_name(value), "' object is not iterable");
}

bool is_true(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_number()) return value.number() != 0;
  if (value.as_text()) return !value.as_text()->empty();
  if (value.as_mapping()) return !value.as_mapping()->entries.empty();
  if (const Sequence* sequence = value.as_sequence()) return !sequence->has_length() || !sequence->items.empty();
  return true;
}

int64_t length_of(const Value& value) {
  if (value.is_undefined()) return 0;
  if (value.as_text()) return static_cast<int64_t>(count_characters(value.as_text()->bytes()));
  if (value.as_mapping()) return static_cast<int64_t>(value.as_mapping()->entries.size());
  const Sequence* sequence = value.as_sequence();
  if (!sequence || !sequence->has_length()) fail_render("object of type '", type_name(value), "' has no len()");
  return static_cast<int64_t>(sequence->items.size());
}

namespace {

bool are_both_tuples_or_of_one_type(SequenceType left, SequenceType right) {
  const auto plain = [](SequenceType type) { return type == SequenceType::kGroup ? SequenceType::kTuple : type; };
  return plain(left) == plain(right);
}

bool equal_sequences(const Sequence& left, const Sequence& right) {
  if (&left == &right) return true;
  if (left.type == SequenceType::kGenerator || !are_both_tuples_or_of_one_type(left.type, right.type)) return false;
  return std::equal(left.items.begin(), left.items.end(), right.items.begin(), right.items.end(), equals);
}

bool equal_mappings(const Mapping& left, const Mapping& right) {
  if (left.entries.size() != right.entries.size()) return false;
  return std::all_of(left.entries.begin(), left.entries.end(), [&](const auto& entry) {
    const Value* other = right.find(entry.first);
    return other && equals(entry.second, *other);
  });
}

int sign_of(double left, double right) {
  return left < right ? -1 : (left > right ? 1 : 0);
}

}  // namespace

bool equals(const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) return left.integral() == right.integral();
  if (left.is_number() && right.is_number()) return left.number() == right.number();
  if (left.as_text() && right.as_text()) return left.as_text()->bytes() == right.as_text()->bytes();
  if (left.as_sequence() && right.as_sequence()) return equal_sequences(*left.as_sequence(), *right.as_sequence());
  if (left.as_mapping() && right.as_mapping()) return equal_mappings(*left.as_mapping(), *right.as_mapping());
  if (left.as_object() && right.as_object()) return left.as_object() == right.as_object();
  return (left.is_none() && right.is_none()) || (left.is_undefined() && right.is_undefined());
}

int compare(const Value& left, const Value& right, std::string_view op) {
  if (left.is_undefined()) fail_render(left.undefined_reason());
  if (right.is_undefined()) fail_render(right.undefined_reason());
  if (left.is_integral() && right.is_integral()) {
    return left.integral() < right.integral() ? -1 : (left.integral() > right.integral() ? 1 : 0);
  }
  if (left.is_number() && right.is_number()) return sign_of(left.number(), right.number());
  if (left.as_text() && right.as_text()) return left.as_text()->bytes().compare(right.as_text()->bytes());
  const Sequence* a = left.as_sequence();
  const Sequence* b = right.as_sequence();
  if (a && b && are_both_tuples_or_of_one_type(a->type, b->type) && a->is_indexable() &&
      a->type != SequenceType::kRange) {
    for (size_t i = 0; i < std::min(a->items.size(), b->items.size()); ++i) {
      if (!equals(a->items[i], b->items[i])) return compare(a->items[i], b->items[i], op);
    }
    return a->items.size() < b->items.size() ? -1 : (a->items.size() > b->items.size() ? 1 : 0);
  }
  fail_render("'", op, "' not supported between instances of '", type_name(left), "' and '", type_name(right), "'");
}

bool contains(const Value& container, const Value& item) {
  if (const Text* text = container.as_text()) {
    const Text* part = item.as_text();
    if (!part) fail_render("'in <string>' requires string as left operand, not ", type_name(item));
    return find_bytes(text->bytes(), part->bytes()) != std::string::npos;
  }
  if (const Mapping* mapping = container.as_mapping()) {
    require_hashable(item);
    return mapping->find(item) != nullptr;
  }
  if (!is_iterable(container)) fail_render("argument of type '", type_name(container), "' is not iterable");
  if (const Sequence* sequence = container.as_sequence(); sequence && sequence->type != SequenceType::kGenerator) {
    return std::any_of(sequence->items.begin(), sequence->items.end(),
                       [&](const Value& other) { return equals(other, item); });
  }
  const std::vector<Value> items = iterate(container);
  return std::any_of(items.begin(), items.end(), [&](const Value& other) { return equals(other, item); });
}

void require_hashable(const Value& value) {
  if (is_hashable(value)) return;
  const Sequence* sequence = value.as_sequence();
  if (!sequence || sequence->type == SequenceType::kList) fail_render("unhashable type: '", type_name(value), "'");
  std::for_each(sequence->items.begin(), sequence->items.end(), require_hashable);
}

}  // namespace dsft::text::jinja

// How expressions of a template are evaluated.
#include <algorithm>

#include "text/jinja_fault.h"
#include "text/jinja_filters.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_methods.h"
#include "text/jinja_objects.h"
#include "text/jinja_operators.h"
#include "text/jinja_restored.h"
#include "text/jinja_tests.h"
#include "text/jinja_unicode.h"

namespace dsft::text::jinja {

namespace {

void require_defined(const Value& value) {
  if (value.is_undefined()) fail_render(value.undefined_reason());
}

// As jinja2 says whose attribute is missing.
std::string owner_name(const Value& value) {
  if (value.is_none()) return "None";
  return type_name(value) + " object";
}

bool holds(const std::string& op, const Value& left, const Value& right) {
  if (op == "==") return equals(left, right);
  if (op == "!=") return !equals(left, right);
  if (op == "in") return contains(right, left);
  if (op == "not in") return !contains(right, left);
  const int order =
      left.is_number() && right.is_number() && (left.number() != left.number() || right.number() != right.number())
          ? 2
          : compare(left, right, op);
  if (order == 2) return false;
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  if (op == ">") return order > 0;
  return order >= 0;
}

}  // namespace

Value Interpreter::evaluate(const Expression& expression) {
  charge(1);
  position_ = expression.position;
  const Restored level(depth_, depth_ + 1);
  require_depth();
  const auto& children = expression.children;
  switch (expression.kind) {
    case ExpressionKind::kConstant:
      return expression.constant;
    case ExpressionKind::kName:
      return evaluate_name(expression);
    case ExpressionKind::kList:
    case ExpressionKind::kTuple:
      return evaluate_items(expression);
    case ExpressionKind::kDict:
      return evaluate_dict(expression);
    case ExpressionKind::kAttribute: {
      const Value object = evaluate(*children[0]);
      position_ = expression.position;
      return attribute_of(object, expression.text);
    }
    case ExpressionKind::kItem:
      return evaluate_item(expression);
    case ExpressionKind::kSlice:
      fail_render("a slice stands outside of an index");
    case ExpressionKind::kCall:
      return evaluate_call(expression);
    case ExpressionKind::kFilter:
      return evaluate_filter(expression, nullptr);
    case ExpressionKind::kTest: {
      const Value value = evaluate(*children[0]);
      Arguments arguments = evaluate_arguments(expression.arguments);
      position_ = expression.position;
      return Value(apply_test(expression.text, value, std::move(arguments)));
    }
    case ExpressionKind::kNot:
      return Value(!is_true(evaluate(*children[0])));
    case ExpressionKind::kNegate:
      return negate(evaluate(*children[0]));
    case ExpressionKind::kPlus:
      return unary_plus(evaluate(*children[0]));
    case ExpressionKind::kBinary:
      return evaluate_binary(expression);
    case ExpressionKind::kCompare:
      return Value(evaluate_comparison(expression));
    case ExpressionKind::kAnd: {
      Value left = evaluate(*children[0]);
      return is_true(left) ? evaluate(*children[1]) : left;
    }
    case ExpressionKind::kOr: {
      Value left = evaluate(*children[0]);
      return is_true(left) ? left : evaluate(*children[1]);
    }
    case ExpressionKind::kConcat:
      return evaluate_concat(expression);
    case ExpressionKind::kConditional:
      return evaluate_conditional(expression);
  }
  return Value();
}

Value Interpreter::evaluate_name(const Expression& expression) {
  if (const Value* value = lookup(expression.name)) return *value;
  Value global = find_global(expression.text);
  return global.is_undefined() ? Value::undefined(concat("'", expression.text, "' is undefined")) : global;
}

Value Interpreter::evaluate_items(const Expression& expression) {
  std::vector<Value> items;
  items.reserve(expression.children.size());
  for (const auto& child : expression.children) items.push_back(evaluate(*child));
  return expression.kind == ExpressionKind::kList ? make_list(std::move(items)) : make_tuple(std::move(items));
}

Value Interpreter::evaluate_dict(const Expression& expression) {
  Mapping mapping;
  for (size_t i = 0; i + 1 < expression.children.size(); i += 2) {
    Value key = evaluate(*expression.children[i]);
    mapping.set(std::move(key), evaluate(*expression.children[i + 1]));
  }
  return make_mapping(std::move(mapping));
}

Value Interpreter::evaluate_item(const Expression& expression) {
  const Value object = evaluate(*expression.children[0]);
  const Expression& key = *expression.children[1];
  if (key.kind == ExpressionKind::kSlice) return evaluate_slice(object, key);
  const Value index = evaluate(key);
  position_ = expression.position;
  return item_of(object, index);
}

Value Interpreter::evaluate_slice(const Value& object, const Expression& slice) {
  std::vector<Value> bounds;
  for (const auto& bound : slice.children) bounds.push_back(bound ? evaluate(*bound) : Value());
  position_ = slice.position;
  require_defined(object);
  charge_for(object);
  const Sequence* sequence = object.as_sequence();
  if (!object.as_text() && !(sequence && sequence->is_indexable())) {
    return Value::undefined(concat(owner_name(object), " has no element slice"));
  }
  return slice_of(object, bounds[0], bounds[1], bounds[2]);
}

Value Interpreter::evaluate_binary(const Expression& expression) {
  const Value left = evaluate(*expression.children[0]);
  const Value right = evaluate(*expression.children[1]);
  position_ = expression.position;
  return apply_operator(*this, expression.text, left, right);
}

Value Interpreter::evaluate_concat(const Expression& expression) {
  Text result;
  for (const auto& child : expression.children) result.append(*to_text(evaluate(*child)));
  charge(result.size() / 256);
  return Value(std::move(result));
}

Value Interpreter::evaluate_conditional(const Expression& expression) {
  if (is_true(evaluate(*expression.children[0]))) return evaluate(*expression.children[1]);
  if (expression.children[2]) return evaluate(*expression.children[2]);
  return Value::undefined(concat("the inline if-expression on line ", expression.position.line,
                                 " evaluated to false and no else section was defined"));
}

bool Interpreter::evaluate_comparison(const Expression& expression) {
  Value left = evaluate(*expression.children[0]);
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.children[i + 1]);
    position_ = expression.position;
    charge_for(right);
    if (!holds(expression.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Arguments Interpreter::evaluate_arguments(const ArgumentList& list) {
  Arguments arguments;
  for (const auto& argument : list.positional) arguments.positional.push_back(evaluate(*argument));
  for (const auto& [name, argument] : list.keywords) arguments.keywords.emplace_back(name, evaluate(*argument));
  if (list.unpacked_positional) {
    for (Value& value : iterate(evaluate(*list.unpacked_positional))) arguments.positional.push_back(std::move(value));
  }
  if (list.unpacked_keywords) {
    const Value keywords = evaluate(*list.unpacked_keywords);
    if (!keywords.as_mapping()) fail_render("argument after ** must be a mapping, not ", type_name(keywords));
    for (const auto& [name, value] : keywords.as_mapping()->entries) {
      if (!name.as_text()) fail_render("keywords must be strings");
      for (const auto& [present, other] : arguments.keywords) {
        if (present == name.as_text()->bytes()) fail_render("got multiple values for keyword argument '", present, "'");
      }
      arguments.keywords.emplace_back(name.as_text()->bytes(), value);
    }
  }
  return arguments;
}

Value Interpreter::evaluate_filter(const Expression& expression, const Value* block_input) {
  const Expression* inner = expression.children[0].get();
  Value input;
  if (!inner) {
    input = *block_input;
  } else {
    input = inner->kind == ExpressionKind::kFilter ? evaluate_filter(*inner, block_input) : evaluate(*inner);
  }
  Arguments arguments = evaluate_arguments(expression.arguments);
  position_ = expression.position;
  return apply_filter(expression.text, input, std::move(arguments));
}

Value Interpreter::evaluate_call(const Expression& expression) {
  const Value callee = evaluate(*expression.children[0]);
  Arguments arguments = evaluate_arguments(expression.arguments);
  position_ = expression.position;
  return call(callee, std::move(arguments));
}

void Interpreter::charge_operands(const Value& input, const Arguments& arguments) {
  charge(1);
  charge_for(input);
  for (const Value& argument : arguments.positional) charge_for(argument);
  for (const auto& [name, argument] : arguments.keywords) charge_for(argument);
}

Value Interpreter::call(const Value& callee, Arguments arguments) {
  charge_operands(callee, arguments);
  require_defined(callee);
  Object* object = callee.as_object();
  if (!object) fail_render("'", type_name(callee), "' object is not callable");
  return object->call(*this, std::move(arguments));
}

Value Interpreter::apply_filter(const std::string& name, const Value& input, Arguments arguments) {
  charge_operands(input, arguments);
  const Filter* filter = find_filter(name);
  if (!filter) fail_render("no filter named '", name, "'");
  return filter->apply(*this, input, std::move(arguments));
}

bool Interpreter::apply_test(const std::string& name, const Value& input, Arguments arguments) {
  charge_operands(input, arguments);
  const Test* test = find_test(name);
  if (!test) fail_render("no test named '", name, "'");
  return test->apply(*this, input, std::move(arguments));
}

Value Interpreter::attribute_of(const Value& object, const std::string& name) {
  require_defined(object);
  Value value;
  if (find_method(object, name, value)) return value;
  if (object.as_object() && object.as_object()->attribute(*this, name, value)) return value;
  if (const Mapping* mapping = object.as_mapping()) {
    if (const Value* item = mapping->find(std::string_view(name))) return *item;
  }
  return Value::undefined(concat("'", owner_name(object), "' has no attribute '", name, "'"));
}

Value Interpreter::item_of(const Value& object, const Value& key) {
  require_defined(object);
  if (const Mapping* mapping = object.as_mapping()) {
    const Sequence* unhashable = key.as_sequence();
    if (!key.as_mapping() && !(unhashable && unhashable->type == SequenceType::kList)) {
      if (const Value* item = mapping->find(key)) return *item;
    }
  }
  const Sequence* sequence = object.as_sequence();
  if (key.is_integral() && (object.as_text() || (sequence && sequence->is_indexable()))) {
    const int64_t length = length_of(object);
    const int64_t index = key.integral() < 0 ? key.integral() + length : key.integral();
    if (index >= 0 && index < length) {
      if (sequence) return sequence->items[static_cast<size_t>(index)];
      const Text& text = *object.as_text();
      const size_t begin = byte_of_character(text.bytes(), static_cast<size_t>(index));
      return Value(text.slice(begin, character_at(text.bytes(), begin).end));
    }
  }
  if (const Text* name = key.as_text()) {
    Value value;
    if (find_method(object, name->bytes(), value)) return value;
    if (object.as_object() && object.as_object()->attribute(*this, name->bytes(), value)) return value;
    return Value::undefined(concat("'", owner_name(object), "' has no attribute '", name->bytes(), "'"));
  }
  return Value::undefined(concat(owner_name(object), " has no element ", to_string(key)));
}

Value Interpreter::item_at_path(const Value& object, const Value& path, const Value* otherwise) {
  if (path.is_none()) return object;
  const auto or_default = [&](Value value) { return value.is_undefined() && otherwise ? *otherwise : value; };
  if (!path.as_text()) return or_default(item_of(object, path));
  const std::string& text = path.as_text()->bytes();
  Value value = object;
  for (size_t begin = 0; begin <= text.size();) {
    charge(1);
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const bool is_number = !part.empty() && part.size() < 18 &&
                           std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    value = or_default(item_of(value, is_number ? Value(static_cast<int64_t>(std::stoll(part))) : Value::words(part)));
    begin = end + 1;
  }
  return value;
}

}  // namespace dsft::text::jinja

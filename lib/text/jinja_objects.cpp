#include "text/jinja_objects.h"

#include <algorithm>

#include "text/jinja_fault.h"

namespace dsft::text::jinja {

std::string Namespace::representation(int depth) const {
  // namespaces may hold each other, and themselves
  if (depth >= kMaxNesting) fail_render("a value nests deeper than ", kMaxNesting, " levels");
  return concat("<Namespace ", represent(Value(std::make_shared<const Mapping>(attributes)), depth + 1).bytes(), ">");
}

bool Namespace::attribute(Interpreter&, std::string_view name, Value& value) {
  const Value* present = attributes.find(name);
  if (present) value = *present;
  return present != nullptr;
}

bool Macro::attribute(Interpreter&, std::string_view name, Value& value) {
  if (name == "name") {
    value = Value::words(statement->text);
  } else if (name == "arguments") {
    std::vector<Value> names;
    for (const Parameter& parameter : statement->parameters) names.push_back(Value::words(parameter.text));
    value = make_tuple(std::move(names));
  } else if (name == "catch_kwargs" || name == "catch_varargs" || name == "caller") {
    value = Value(name == "caller"         ? statement->takes_caller
                  : name == "catch_kwargs" ? statement->takes_kwargs
                                           : statement->takes_varargs);
  } else {
    return false;
  }
  return true;
}

Value Macro::call(Interpreter& interpreter, Arguments arguments) {
  const ScopePtr defined_in = scope;
  return interpreter.call_macro(*statement, defined_in, std::move(arguments));
}

Value make_method(const std::string& name, const Value& holder, Function::Body body) {
  auto function = std::make_shared<Function>(name, std::move(body));
  function->nesting = nesting_around(holder);
  return Value(std::shared_ptr<Object>(std::move(function)));
}

Loop::Loop(Interpreter& interpreter, const Statement& statement, ScopePtr scope, std::vector<Value> items,
           int64_t depth0)
    : interpreter_(interpreter),
      statement_(statement),
      scope_(std::move(scope)),
      items_(std::move(items)),
      depth0_(depth0) {
  for (const Value& item : items_) nesting = std::max(nesting, nesting_around(item));
}

std::optional<Value> Loop::pull() {
  while (next_ < items_.size()) {
    const Value& item = items_[next_++];
    if (has_filtered_all_ || !scope_ || interpreter_.passes_filter(statement_, scope_, item)) return item;
  }
  return std::nullopt;
}

bool Loop::has_next() {
  if (!after_) after_ = pull();
  return after_.has_value();
}

bool Loop::advance() {
  if (!has_next()) return false;
  before_ = std::move(current_);
  current_ = std::move(after_);
  after_.reset();
  ++index0_;
  return true;
}

int64_t Loop::length() {
  if (length_) return *length_;
  if (!statement_.filter) {
    length_ = static_cast<int64_t>(items_.size());
    return *length_;
  }
  std::vector<Value> rest;
  if (after_) rest.push_back(*after_);
  after_.reset();
  while (std::optional<Value> item = pull()) rest.push_back(std::move(*item));
  length_ = index0_ + 1 + static_cast<int64_t>(rest.size());
  items_ = std::move(rest);
  next_ = 0;
  has_filtered_all_ = true;
  return *length_;
}

bool Loop::attribute(Interpreter& interpreter, std::string_view name, Value& value) {
  if (name == "index0") return value = Value(index0_), true;
  if (name == "index") return value = Value(index0_ + 1), true;
  if (name == "first") return value = Value(index0_ == 0), true;
  if (name == "last") return value = Value(!has_next()), true;
  if (name == "length") return value = Value(length()), true;
  if (name == "revindex") return value = Value(length() - index0_), true;
  if (name == "revindex0") return value = Value(length() - index0_ - 1), true;
  if (name == "depth") return value = Value(depth0_ + 1), true;
  if (name == "depth0") return value = Value(depth0_), true;
  if (name == "previtem") return value = before_ ? *before_ : Value::undefined("there is no previous item"), true;
  if (name == "nextitem") return value = has_next() ? *after_ : Value::undefined("there is no next item"), true;
  if (name == "cycle") {
    const int64_t index = index0_;
    value =
        Value(std::shared_ptr<Object>(std::make_shared<Function>("cycle", [index](Interpreter&, Arguments arguments) {
          if (arguments.positional.empty()) fail_render("no items for cycling given");
          return arguments.positional[static_cast<size_t>(index) % arguments.positional.size()];
        })));
    return true;
  }
  if (name == "changed") {
    // what it was last given may hold this loop
    if (!is_watched_) interpreter.watch([self = shared_from_this()] { self->last_changed_.reset(); });
    is_watched_ = true;
    value = Value(std::shared_ptr<Object>(
        std::make_shared<Function>("changed", [self = shared_from_this()](Interpreter&, Arguments arguments) {
          const Value now = make_tuple(std::move(arguments.positional));
          const bool is_changed = !self->last_changed_ || !equals(*self->last_changed_, now);
          self->last_changed_ = now;
          return Value(is_changed);
        })));
    return true;
  }
  return false;
}

Value Loop::call(Interpreter& interpreter, Arguments arguments) {
  const Bound bound("loop", std::move(arguments), {"iterable"}, 1);
  if (!statement_.is_recursive) fail_render("the loop must have the 'recursive' marker to be called recursively");
  if (!scope_) fail_render("a loop is called after it has ended");
  const ScopePtr scope = scope_;
  return interpreter.run_recursive_loop(statement_, scope, bound[0], depth0_ + 1);
}

Bound::Bound(std::string_view function, Arguments arguments, std::initializer_list<std::string_view> names,
             size_t required)
    : function_(function), values_(names.size()) {
  if (arguments.positional.size() > names.size()) {
    fail_render(function_, "() takes at most ", names.size(), " argument(s), ", arguments.positional.size(), " given");
  }
  std::move(arguments.positional.begin(), arguments.positional.end(), values_.begin());
  for (auto& [name, value] : arguments.keywords) {
    const auto it = std::find(names.begin(), names.end(), name);
    if (it == names.end()) fail_render(function_, "() got an unexpected keyword argument '", name, "'");
    std::optional<Value>& slot = values_[static_cast<size_t>(it - names.begin())];
    if (slot) fail_render(function_, "() got multiple values for argument '", name, "'");
    slot = std::move(value);
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i]) fail_render(function_, "() misses its argument '", *(names.begin() + i), "'");
  }
}

int64_t Bound::integer(size_t index, int64_t otherwise) const {
  if (!has(index)) return otherwise;
  const Value& value = *values_[index];
  if (value.is_undefined()) fail_render(value.undefined_reason());
  if (!value.is_integral())
    fail_render(function_, "(): '", type_name(value), "' object cannot be interpreted as an integer");
  return value.integral();
}

const Text& Bound::text(size_t index) const {
  const Value& value = *values_[index];
  if (value.is_undefined()) fail_render(value.undefined_reason());
  if (!value.as_text()) fail_render(function_, "() argument must be str, not ", type_name(value));
  return *value.as_text();
}

}  // namespace dsft::text::jinja

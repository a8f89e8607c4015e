#include "text/jinja_interpreter.h"

#include <time.h>

#include <algorithm>

#include "text/jinja_fault.h"
#include "text/jinja_objects.h"
#include "text/jinja_restored.h"

namespace dsft::text::jinja {

namespace {

constexpr size_t kBytesPerStep = 256;
constexpr size_t kItemsPerStep = 16;

double thread_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

int32_t message_of(const Value& value) {
  return value.as_mapping() ? value.as_mapping()->message : Origin::kNoMessage;
}

}  // namespace

const Value* Scope::find(int name) const {
  for (auto it = variables.rbegin(); it != variables.rend(); ++it) {
    if (it->first == name) return &it->second;
  }
  return nullptr;
}

void Scope::set(int name, Value value) {
  for (auto& variable : variables) {
    if (variable.first != name) continue;
    variable.second = std::move(value);
    return;
  }
  variables.emplace_back(name, std::move(value));
}

/// A scope that ends with a block of C++.
class Interpreter::Frame {
 public:
  Frame(Interpreter& interpreter, ScopePtr parent) : scope_(interpreter.scope_, std::make_shared<Scope>()) {
    interpreter.scope_->parent = std::move(parent);
  }

 private:
  Restored<ScopePtr> scope_;
};

/// The turn of a message that ends with a block of C++.
class Interpreter::Turn {
 public:
  explicit Turn(Interpreter& interpreter)
      : turn_(interpreter.turn_, interpreter.turn_),
        takes_from_set_(interpreter.takes_turn_from_set_, interpreter.takes_turn_from_set_) {}

 private:
  Restored<int32_t> turn_;
  Restored<bool> takes_from_set_;
};

Interpreter::Interpreter(const Template& source, const Limits& limits)
    : template_(source),
      limits_(limits),
      scope_(std::make_shared<Scope>()),
      deadline_(thread_cpu_seconds() + limits.max_cpu_seconds) {}

Interpreter::~Interpreter() {
  for (const auto& clear : clears_) clear();
}

void Interpreter::define(std::string_view name, Value value) {
  const int number = template_.find_name(name);
  if (number >= 0) scope_->set(number, std::move(value));
}

Text Interpreter::run() {
  Text output;
  output_ = &output;
  const ScopePtr top = scope_;
  watch([top] { top->variables.clear(); });
  const Frame frame(*this, scope_);
  const ScopePtr exported = scope_;
  watch([exported] { exported->variables.clear(); });
  execute(template_.body);
  return output;
}

void Interpreter::charge(size_t steps) {
  const int64_t before = steps_;
  steps_ += static_cast<int64_t>(std::min<size_t>(steps, 1u << 30));
  if (steps_ > limits_.max_steps)
    fail_render("the template takes more than ", limits_.max_steps, " steps: does it loop for ever?");
  if ((before >> 8) != (steps_ >> 8) && thread_cpu_seconds() > deadline_)
    fail_render("the template takes longer than ", limits_.max_cpu_seconds, " s");
}

void Interpreter::charge_for(const Value& value) {
  if (value.as_text()) return charge(value.as_text()->size() / kBytesPerStep);
  if (value.as_sequence()) return charge(value.as_sequence()->items.size() / kItemsPerStep);
  if (value.as_mapping()) charge(value.as_mapping()->entries.size() / kItemsPerStep);
}

void Interpreter::require_depth() const {
  if (depth_ > limits_.max_depth) fail_render("the template nests or recurses too deeply");
}

const Value* Interpreter::lookup(int name) const {
  for (const Scope* scope = scope_.get(); scope; scope = scope->parent.get()) {
    if (const Value* value = scope->find(name)) return value;
  }
  return nullptr;
}

Interpreter::Flow Interpreter::execute(const Block& block) {
  for (const auto& statement : block) {
    const Flow flow = execute(*statement);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const Statement& statement) {
  position_ = statement.position;
  charge(1);
  const Restored level(depth_, depth_ + 1);
  require_depth();
  switch (statement.kind) {
    case StatementKind::kText:
      print(*statement.constant.as_text());
      break;
    case StatementKind::kPrint:
      print(*to_text(evaluate(*statement.expression)));
      break;
    case StatementKind::kIf:
      return execute_if(statement);
    case StatementKind::kFor:
      return execute_loop(statement, evaluate(*statement.expression), 0);
    case StatementKind::kSet:
    case StatementKind::kSetBlock:
      execute_set(statement);
      break;
    case StatementKind::kMacro:
      execute_macro(statement);
      break;
    case StatementKind::kCallBlock:
      execute_call_block(statement);
      break;
    case StatementKind::kFilterBlock: {
      const Value body(capture([&] {
        const Frame frame(*this, scope_);
        execute(statement.body);
      }));
      print(*to_text(evaluate_filter(*statement.expression, &body)));
      break;
    }
    case StatementKind::kWith:
      return execute_with(statement);
    case StatementKind::kGeneration:
      return execute_generation(statement);
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute_if(const Statement& statement) {
  return execute(is_true(evaluate(*statement.expression)) ? statement.body : statement.otherwise);
}

Interpreter::Flow Interpreter::execute_loop(const Statement& statement, const Value& items, int64_t depth) {
  std::vector<Value> values = iterate(items);
  charge(values.size() / 16);
  const ScopePtr outer = scope_;
  const auto loop = std::make_shared<Loop>(*this, statement, outer, std::move(values), depth);
  bool has_run = false;
  while (loop->advance()) {
    has_run = true;
    charge(1);
    const Frame frame(*this, outer);
    const Turn turn(*this);
    const int32_t message = message_of(loop->current());
    const size_t begin = output_->size();
    if (message != Origin::kNoMessage) turn_ = message;
    takes_turn_from_set_ = turn_ == Origin::kNoMessage;
    scope_->set(template_.loop_name, Value(std::shared_ptr<Object>(loop)));
    assign(statement.target, loop->current());
    const Flow flow = execute(statement.body);
    if (turn_ == Origin::kNoMessage) output_->stamp(begin, output_->only_message(begin), is_in_generation_);
    if (flow == Flow::kBreak) break;
  }
  loop->close();
  if (has_run) return Flow::kNormal;
  const Frame frame(*this, outer);
  return execute(statement.otherwise);
}

bool Interpreter::passes_filter(const Statement& loop, const ScopePtr& scope, const Value& item) {
  if (!loop.filter) return true;
  const Frame frame(*this, scope);
  const Turn turn(*this);
  assign(loop.target, item);
  return is_true(evaluate(*loop.filter));
}

Value Interpreter::run_recursive_loop(const Statement& loop, const ScopePtr& scope, const Value& items, int64_t depth) {
  if (calls_ >= limits_.max_calls) fail_render("loops recurse deeper than ", limits_.max_calls, " levels");
  const Restored call(calls_, calls_ + 1);
  return Value(capture([&] {
    const Restored outer(scope_, scope);
    execute_loop(loop, items, depth);
  }));
}

Interpreter::Flow Interpreter::execute_with(const Statement& statement) {
  std::vector<Value> values;
  for (const auto& [target, expression] : statement.assignments) values.push_back(evaluate(*expression));
  const Frame frame(*this, scope_);
  const Turn turn(*this);
  for (size_t i = 0; i < values.size(); ++i) {
    if (turn_ == Origin::kNoMessage) turn_ = message_of(values[i]);
    assign(statement.assignments[i].first, values[i]);
  }
  return execute(statement.body);
}

// jinja2 makes the body a macro that is called on the spot, so what it sets stays inside.
Interpreter::Flow Interpreter::execute_generation(const Statement& statement) {
  const Restored generation(is_in_generation_, true);
  const Frame frame(*this, scope_);
  return execute(statement.body);
}

void Interpreter::execute_set(const Statement& statement) {
  if (statement.kind == StatementKind::kSet) {
    const Value value = evaluate(*statement.expression);
    note_binding(value);
    return assign(statement.target, value);
  }
  Value body(capture([&] {
    const Frame frame(*this, scope_);
    execute(statement.body);
  }));
  assign(statement.target, statement.expression ? evaluate_filter(*statement.expression, &body) : body);
}

// {% for i in range(...) %}{% set message = messages[i] %}: from here on the iteration is that message's turn.
void Interpreter::note_binding(const Value& value) {
  if (!takes_turn_from_set_ || message_of(value) == Origin::kNoMessage) return;
  turn_ = message_of(value);
  takes_turn_from_set_ = false;
}

void Interpreter::execute_macro(const Statement& statement) {
  auto macro = std::make_shared<Macro>();
  macro->statement = &statement;
  macro->scope = scope_;
  watch([macro] { macro->scope.reset(); });
  scope_->set(statement.name, Value(std::shared_ptr<Object>(macro)));
}

void Interpreter::execute_call_block(const Statement& statement) {
  auto caller = std::make_shared<Macro>();
  caller->statement = &statement;
  caller->scope = scope_;
  watch([caller] { caller->scope.reset(); });
  const Value callee = evaluate(*statement.expression->children[0]);
  Arguments arguments = evaluate_arguments(statement.expression->arguments);
  arguments.keywords.emplace_back("caller", Value(std::shared_ptr<Object>(caller)));
  print(*to_text(call(callee, std::move(arguments))));
}

void Interpreter::print(const Text& text) {
  charge(text.size() / kBytesPerStep);
  const size_t begin = output_->size();
  output_->append(text);
  output_->stamp(begin, turn_, is_in_generation_);
}

TextPtr Interpreter::capture(const std::function<void()>& body) {
  Text text;
  const Restored outer(output_, &text);
  body();
  return std::make_shared<const Text>(std::move(text));
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (target.is_tuple) {
    const std::vector<Value> values = iterate(value);
    if (values.size() != target.parts.size()) {
      fail_render(values.size() > target.parts.size() ? "too many" : "not enough", " values to unpack: expected ",
                  target.parts.size(), ", got ", values.size());
    }
    for (size_t i = 0; i < values.size(); ++i) assign(target.parts[i], values[i]);
  } else if (target.attribute.empty()) {
    scope_->set(target.name, value);
  } else {
    const Value* object = lookup(target.name);
    auto* space = object ? dynamic_cast<Namespace*>(object->as_object()) : nullptr;
    if (!space)
      fail_render("cannot assign attribute '", target.attribute, "' on something that is no namespace: '",
                  name_of(target.name), "'");
    nesting_around(value);
    space->attributes.set(Value::words(target.attribute), value);
  }
}

void Interpreter::bind_parameters(const Statement& macro, Arguments& arguments) {
  const size_t count = macro.parameters.size();
  for (size_t i = 0; i < count; ++i) {
    const Parameter& parameter = macro.parameters[i];
    Value value;
    if (i < arguments.positional.size()) {
      scope_->set(parameter.name, arguments.positional[i]);
    } else if (arguments.take(parameter.text, value)) {
      scope_->set(parameter.name, std::move(value));
    } else if (parameter.default_value) {
      scope_->set(parameter.name, evaluate(*parameter.default_value));
    } else {
      scope_->set(parameter.name, Value::undefined(concat("parameter '", parameter.text, "' was not provided")));
    }
  }
}

void Interpreter::bind_surplus(const Statement& macro, Arguments& arguments) {
  const size_t count = macro.parameters.size();
  const bool names_caller = std::any_of(macro.parameters.begin(), macro.parameters.end(),
                                        [](const Parameter& p) { return p.text == "caller"; });
  if (macro.takes_caller && !names_caller) {
    Value caller = Value::undefined("No caller defined");
    arguments.take("caller", caller);
    scope_->set(template_.caller_name, std::move(caller));
  }
  if (macro.takes_kwargs) {
    Mapping keywords;
    for (auto& [name, value] : arguments.keywords) keywords.set(Value::words(name), std::move(value));
    scope_->set(template_.kwargs_name, make_mapping(std::move(keywords)));
  } else if (!arguments.keywords.empty()) {
    fail_render("macro '", macro.text, "' takes no keyword argument '", arguments.keywords.front().first, "'");
  }
  if (macro.takes_varargs) {
    const auto begin =
        arguments.positional.begin() + static_cast<std::ptrdiff_t>(std::min(count, arguments.positional.size()));
    scope_->set(template_.varargs_name, make_tuple({begin, arguments.positional.end()}));
  } else if (arguments.positional.size() > count) {
    fail_render("macro '", macro.text, "' takes not more than ", count, " argument(s)");
  }
}

Value Interpreter::call_macro(const Statement& macro, const ScopePtr& scope, Arguments arguments) {
  if (calls_ >= limits_.max_calls) fail_render("macros call each other deeper than ", limits_.max_calls, " levels");
  const Restored call(calls_, calls_ + 1);
  const Turn turn(*this);
  takes_turn_from_set_ = false;
  const auto is_message = [](const Value& value) { return message_of(value) != Origin::kNoMessage; };
  const auto given = std::find_if(arguments.positional.begin(), arguments.positional.end(), is_message);
  const auto named = std::find_if(arguments.keywords.begin(), arguments.keywords.end(),
                                  [&](const auto& k) { return is_message(k.second); });
  if (given != arguments.positional.end()) {
    turn_ = message_of(*given);
  } else if (named != arguments.keywords.end()) {
    turn_ = message_of(named->second);
  }
  return Value(capture([&] {
    const Frame frame(*this, scope);
    bind_parameters(macro, arguments);
    bind_surplus(macro, arguments);
    execute(macro.body);
  }));
}

}  // namespace dsft::text::jinja

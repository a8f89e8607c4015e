#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/jinja_interpreter.h"
#include "text/jinja_value.h"

namespace dsft::text::jinja {

/// namespace(): the one thing of a template that can be changed.
struct Namespace : Object {
  Mapping attributes;
  std::string type_name() const override { return "Namespace"; }
  std::string representation(int depth) const override;
  bool attribute(Interpreter&, std::string_view name, Value& value) override;
  bool is_callable() const override { return false; }
};

/// A function of C++: a global, or a method bound to its value.
struct Function : Object {
  using Body = std::function<Value(Interpreter&, Arguments)>;
  Function(std::string function_name, Body function_body)
      : name(std::move(function_name)), body(std::move(function_body)) {}
  std::string name;
  Body body;
  std::string type_name() const override { return "function"; }
  Value call(Interpreter& interpreter, Arguments arguments) override { return body(interpreter, std::move(arguments)); }
};

/// A function that keeps `holder`.
Value make_method(const std::string& name, const Value& holder, Function::Body body);

/// {% macro %} or the caller of a {% call %}.
struct Macro : Object {
  const Statement* statement = nullptr;
  ScopePtr scope;
  std::string type_name() const override { return "Macro"; }
  bool attribute(Interpreter&, std::string_view name, Value& value) override;
  Value call(Interpreter& interpreter, Arguments arguments) override;
};

/// The variable `loop`: looks ahead only when it is asked to, so that a loop's filter runs as late as the peer's.
struct Loop : Object, std::enable_shared_from_this<Loop> {
  Loop(Interpreter& interpreter, const Statement& statement, ScopePtr scope, std::vector<Value> items, int64_t depth0);

  /// Moves to the next item that passes the loop's filter.
  bool advance();
  const Value& current() const { return *current_; }

  std::string type_name() const override { return "LoopContext"; }
  bool attribute(Interpreter&, std::string_view name, Value& value) override;
  bool is_callable() const override { return statement_.is_recursive; }
  Value call(Interpreter& interpreter, Arguments arguments) override;
  /// Cuts the tie to the scopes when the loop is over.
  void close() { scope_.reset(); }

 private:
  std::optional<Value> pull();
  bool has_next();
  int64_t length();

  Interpreter& interpreter_;
  const Statement& statement_;
  ScopePtr scope_;
  std::vector<Value> items_;
  size_t next_ = 0;
  bool has_filtered_all_ = false;  ///< items_ holds only items that passed the loop's filter
  int64_t index0_ = -1;
  int64_t depth0_;
  std::optional<Value> before_, current_, after_;
  std::optional<int64_t> length_;
  std::optional<Value> last_changed_;
  bool is_watched_ = false;  ///< last_changed_ is cleared at the end of the run
};

/// A global of every template ("range", "namespace", "raise_exception", ...), or Undefined.
Value find_global(const std::string& name);

/// Argument checking of functions of C++: positional and keyword arguments by name, as Python binds them. Throws Fault.
class Bound {
 public:
  Bound(std::string_view function, Arguments arguments, std::initializer_list<std::string_view> names,
        size_t required = 0);
  bool has(size_t index) const { return values_[index].has_value(); }
  const Value& operator[](size_t index) const { return *values_[index]; }
  bool flag(size_t index, bool otherwise) const { return has(index) ? is_true(*values_[index]) : otherwise; }
  int64_t integer(size_t index, int64_t otherwise) const;
  /// The argument as text; throws Fault where it is not one.
  const Text& text(size_t index) const;
  bool is_given(size_t index) const { return has(index) && !values_[index]->is_none(); }

 private:
  std::string function_;
  std::vector<std::optional<Value>> values_;
};

}  // namespace dsft::text::jinja

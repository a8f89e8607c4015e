#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_value.h"

namespace dsft::text::jinja {

/// The limits of one rendering; crossing one is a Fault that names it.
struct Limits {
  int64_t max_steps = 1'000'000;
  int max_calls = 64;    ///< macros and recursive loops inside each other
  int max_depth = 1200;  ///< statements and expressions inside each other, all macros together: bounds the C++ stack
  double max_cpu_seconds = 2;  ///< of the thread: a machine that is busy or was suspended fails no row
};

/// The variables of one block of a template.
struct Scope {
  std::vector<std::pair<int, Value>> variables;
  std::shared_ptr<Scope> parent;

  const Value* find(int name) const;
  void set(int name, Value value);
};

using ScopePtr = std::shared_ptr<Scope>;

/// Runs one parsed template once. Output bytes carry their origin: what a message's data gave, and in which message's
/// turn a byte was written.
///
/// The turn is: inside a for loop over messages (a slice, reversed, filtered, a copy in a namespace), the message of
/// the iteration; inside a macro that is given a message, that message; inside a loop over something else, the first
/// message that `set` binds in its body, or else the only message whose data the iteration wrote; in {% with m =
/// messages[i] %}, m where there is no turn yet.
class Interpreter {
 public:
  Interpreter(const Template& source, const Limits& limits);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  /// Defines a top-level variable; a name that the template never says is dropped.
  void define(std::string_view name, Value value);
  /// Renders once. Throws Fault; position() then says where.
  Text run();
  Position position() const { return position_; }

  // What filters, tests, methods and objects use.
  void charge(size_t steps);
  /// Charges for going through a text or the items of a container once.
  void charge_for(const Value& value);
  Value call(const Value& callee, Arguments arguments);
  Value apply_filter(const std::string& name, const Value& input, Arguments arguments);
  bool apply_test(const std::string& name, const Value& input, Arguments arguments);
  /// x.name, and x["name"] or x[index]: Undefined where there is none.
  Value attribute_of(const Value& object, const std::string& name);
  Value item_of(const Value& object, const Value& key);
  /// The value at a dotted path ("function.name"), as map(attribute=...) follows it; `otherwise`, where given, stands
  /// for each missing step.
  Value item_at_path(const Value& object, const Value& path, const Value* otherwise = nullptr);
  /// Keeps an object that may come to hold itself until the end of the run, where its content is cleared.
  void watch(std::function<void()> clear) { clears_.push_back(std::move(clear)); }

  // What the objects of the template call back.
  Value call_macro(const Statement& macro, const ScopePtr& scope, Arguments arguments);
  Value run_recursive_loop(const Statement& loop, const ScopePtr& scope, const Value& items, int64_t depth);
  bool passes_filter(const Statement& loop, const ScopePtr& scope, const Value& item);
  const std::string& name_of(int name) const { return template_.names[static_cast<size_t>(name)]; }

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  class Frame;
  class Turn;

  void require_depth() const;
  Flow execute(const Block& block);
  Flow execute(const Statement& statement);
  Flow execute_if(const Statement& statement);
  Flow execute_loop(const Statement& statement, const Value& items, int64_t depth);
  Flow execute_with(const Statement& statement);
  Flow execute_generation(const Statement& statement);
  void execute_set(const Statement& statement);
  void execute_macro(const Statement& statement);
  void execute_call_block(const Statement& statement);
  void print(const Text& text);
  TextPtr capture(const std::function<void()>& body);
  void assign(const Target& target, const Value& value);
  void note_binding(const Value& value);
  void bind_parameters(const Statement& macro, Arguments& arguments);
  void bind_surplus(const Statement& macro, Arguments& arguments);

  Value evaluate(const Expression& expression);
  Value evaluate_name(const Expression& expression);
  Value evaluate_items(const Expression& expression);
  Value evaluate_dict(const Expression& expression);
  Value evaluate_item(const Expression& expression);
  Value evaluate_slice(const Value& object, const Expression& slice);
  Value evaluate_binary(const Expression& expression);
  Value evaluate_concat(const Expression& expression);
  Value evaluate_conditional(const Expression& expression);
  bool evaluate_comparison(const Expression& expression);
  Value evaluate_filter(const Expression& expression, const Value* block_input);
  Value evaluate_call(const Expression& expression);
  void charge_operands(const Value& input, const Arguments& arguments);
  Arguments evaluate_arguments(const ArgumentList& list);
  const Value* lookup(int name) const;

  const Template& template_;
  Limits limits_;
  Position position_;
  ScopePtr scope_;
  Text* output_ = nullptr;
  int32_t turn_ = Origin::kNoMessage;
  bool takes_turn_from_set_ = false;  ///< in a loop over something else than messages outside of any turn, before its
                                      ///< first binding
  bool is_in_generation_ = false;
  int64_t steps_ = 0;
  int calls_ = 0;
  int depth_ = 0;
  double deadline_;  ///< in CPU seconds of the thread that renders
  std::vector<std::function<void()>> clears_;
};

}  // namespace dsft::text::jinja

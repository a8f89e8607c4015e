#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace dsft::text::jinja {

/// A place in the template's source, 1-based.
struct Position {
  int line = 1;
  int column = 1;
};

enum class ExpressionKind {
  kConstant,   ///< constant
  kName,       ///< name
  kList,       ///< children
  kTuple,      ///< children
  kDict,       ///< children: key, value, key, value, ...
  kAttribute,  ///< children[0] . text
  kItem,       ///< children[0] [ children[1] ]
  kSlice,      ///< children[0..2], each possibly null: start, stop, step; only as the second child of kItem
  kCall,       ///< children[0] ( arguments )
  kFilter,     ///< children[0] (null in a filter block) | text ( arguments )
  kTest,       ///< children[0] is text ( arguments )
  kNot,
  kNegate,
  kPlus,
  kBinary,   ///< children[0] text children[1], text one of + - * / // % **
  kCompare,  ///< children[0] operators[0] children[1] operators[1] ...
  kAnd,
  kOr,
  kConcat,       ///< children ~
  kConditional,  ///< children: test, then, else (possibly null)
};

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

/// The arguments of a call, filter or test as written.
struct ArgumentList {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> keywords;
  ExpressionPtr unpacked_positional;  ///< *expression
  ExpressionPtr unpacked_keywords;    ///< **expression
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kConstant;
  Position position;
  std::vector<ExpressionPtr> children;
  std::string text;
  int name = -1;  ///< index into Template::names
  Value constant;
  std::vector<std::string> operators;
  ArgumentList arguments;
  int height = 1;  ///< of the tree below; bounded by the parser
};

enum class StatementKind {
  kText,         ///< constant
  kPrint,        ///< expression
  kIf,           ///< expression, body, otherwise
  kFor,          ///< target in expression if filter: body else otherwise
  kSet,          ///< target = expression
  kSetBlock,     ///< target (expression is the filter chain or null): body
  kMacro,        ///< name(parameters): body
  kCallBlock,    ///< expression is the call; parameters of its caller: body
  kFilterBlock,  ///< expression is the filter chain: body
  kWith,         ///< assignments: body
  kGeneration,   ///< body
  kBreak,
  kContinue,
};

/// What a value is assigned to: a name, a namespace's attribute, or a tuple of targets.
struct Target {
  int name = -1;
  std::string attribute;
  std::vector<Target> parts;
  bool is_tuple = false;
};

struct Parameter {
  int name = -1;
  std::string text;
  ExpressionPtr default_value;
};

struct Statement;
using StatementPtr = std::unique_ptr<Statement>;
using Block = std::vector<StatementPtr>;

struct Statement {
  StatementKind kind = StatementKind::kText;
  Position position;
  Value constant;
  ExpressionPtr expression;
  Block body;
  Block otherwise;
  Target target;
  ExpressionPtr filter;
  bool is_recursive = false;
  std::string text;
  int name = -1;
  std::vector<Parameter> parameters;
  bool takes_varargs = false;
  bool takes_kwargs = false;
  bool takes_caller = false;
  std::vector<std::pair<Target, ExpressionPtr>> assignments;
};

/// A parsed template. Names are numbered so that scopes compare integers.
struct Template {
  Block body;
  std::vector<std::string> names;
  bool has_generation = false;
  int loop_name = -1;  ///< number of "loop", or -1 where the template never says it
  int varargs_name = -1;
  int kwargs_name = -1;
  int caller_name = -1;

  int find_name(std::string_view name) const;
};

/// Calls visit(expression) for every expression of a block, nested ones included.
template <typename Visit>
void visit_expressions(const Block& block, const Visit& visit);
template <typename Visit>
void visit_expressions(const Expression* expression, const Visit& visit);

template <typename Visit>
void visit_expressions(const Expression* expression, const Visit& visit) {
  if (!expression) return;
  visit(*expression);
  for (const auto& child : expression->children) visit_expressions(child.get(), visit);
  for (const auto& argument : expression->arguments.positional) visit_expressions(argument.get(), visit);
  for (const auto& [key, argument] : expression->arguments.keywords) visit_expressions(argument.get(), visit);
  visit_expressions(expression->arguments.unpacked_positional.get(), visit);
  visit_expressions(expression->arguments.unpacked_keywords.get(), visit);
}

template <typename Visit>
void visit_expressions(const Block& block, const Visit& visit) {
  for (const auto& statement : block) {
    visit_expressions(statement->expression.get(), visit);
    visit_expressions(statement->filter.get(), visit);
    for (const auto& parameter : statement->parameters) visit_expressions(parameter.default_value.get(), visit);
    for (const auto& [target, value] : statement->assignments) visit_expressions(value.get(), visit);
    visit_expressions(statement->body, visit);
    visit_expressions(statement->otherwise, visit);
  }
}

}  // namespace dsft::text::jinja

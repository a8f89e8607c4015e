#pragma once

#include <map>
#include <string>

#include "text/jinja_ast.h"
#include "text/jinja_token_stream.h"

namespace dsft::text::jinja {

/// Parses expressions with jinja2's precedence.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  ExpressionPtr parse_expression();
  /// One or more expressions: with a comma they are a tuple. `stops_at` is a name that ends an open tuple ("in"), or
  /// "".
  ExpressionPtr parse_tuple(std::string_view stops_at = "");
  /// The same without inline if at its top, as after "for x in" and "if".
  ExpressionPtr parse_plain_tuple(std::string_view stops_at = "");
  /// name, name.attribute or (a, b); `allows_attribute` for set.
  Target parse_target(std::string_view stops_at);
  int parse_target_name();
  /// The filters after `{% filter` or `{% set x |`; the first one's input is null.
  ExpressionPtr parse_filter_chain();

  int number_of(const std::string& name);
  std::vector<std::string> take_names();

  /// Counts nested parsing on the stack and throws SyntaxFault past kMaxSourceNesting.
  class Depth {
   public:
    explicit Depth(ExpressionParser& parser);
    ~Depth() { --parser_.depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    ExpressionParser& parser_;
  };

 private:
  enum class Ternary { kAllowed, kNotAllowed };
  enum class Filters { kAllowed, kNotAllowed };

  ExpressionPtr make(ExpressionKind kind, Position position);
  ExpressionPtr finish(ExpressionPtr expression);
  ExpressionPtr make_binary(ExpressionKind kind, std::string op, ExpressionPtr left, ExpressionPtr right);
  ExpressionPtr parse_items(Ternary ternary, std::string_view stops_at, bool may_be_empty);
  bool is_tuple_end(std::string_view stops_at) const;
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_comparison();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(Filters filters);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_name();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr value);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr value);
  ExpressionPtr parse_dot(ExpressionPtr value);
  ExpressionPtr parse_brackets(ExpressionPtr value);
  ExpressionPtr parse_subscript();
  ExpressionPtr parse_call(ExpressionPtr callee);
  ExpressionPtr parse_filter(ExpressionPtr value);
  ExpressionPtr parse_test(ExpressionPtr value);
  ArgumentList parse_arguments();
  std::string parse_dotted_name();
  int64_t integer_of(const std::string& text) const;

  TokenStream& tokens_;
  std::map<std::string, int> numbers_;
  std::vector<std::string> names_;
  int depth_ = 0;
};

}  // namespace dsft::text::jinja

// What follows a value: attributes, subscripts, calls, filters and tests.
#include "text/jinja_expression_parser.h"
#include "text/jinja_fault.h"
#include "text/jinja_parser.h"

namespace dsft::text::jinja {

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr value) {
  while (true) {
    if (tokens_.is_operator(".")) {
      value = parse_dot(std::move(value));
    } else if (tokens_.is_operator("[")) {
      value = parse_brackets(std::move(value));
    } else if (tokens_.is_operator("(")) {
      value = parse_call(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filters_and_tests(ExpressionPtr value) {
  while (true) {
    if (tokens_.is_operator("|")) {
      tokens_.advance();
      value = parse_filter(std::move(value));
    } else if (tokens_.is_name("is")) {
      value = parse_test(std::move(value));
    } else if (tokens_.is_operator("(")) {
      value = parse_call(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::parse_dot(ExpressionPtr value) {
  auto node = make(ExpressionKind::kAttribute, tokens_.advance().position);
  node->children.push_back(std::move(value));
  const Token token = tokens_.advance();
  if (token.kind == TokenKind::kName) {
    node->text = token.text;
  } else if (token.kind == TokenKind::kInteger) {
    node->kind = ExpressionKind::kItem;
    auto index = make(ExpressionKind::kConstant, token.position);
    index->constant = Value(integer_of(token.text));
    node->children.push_back(std::move(index));
  } else {
    throw SyntaxFault("expected a name or a number after '.'", token.position.line, token.position.column);
  }
  return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_brackets(ExpressionPtr value) {
  auto node = make(ExpressionKind::kItem, tokens_.advance().position);
  node->children.push_back(std::move(value));
  auto subscripts = make(ExpressionKind::kTuple, node->position);
  while (!tokens_.is_operator("]")) {
    if (!subscripts->children.empty()) tokens_.expect_operator(",");
    subscripts->children.push_back(parse_subscript());
  }
  tokens_.expect_operator("]");
  if (subscripts->children.empty()) tokens_.fail("expected an index between '[' and ']'");
  if (subscripts->children.size() > 1) {
    for (const auto& subscript : subscripts->children) {
      if (subscript->kind == ExpressionKind::kSlice) tokens_.fail("a slice cannot stand beside another index");
    }
  }
  node->children.push_back(subscripts->children.size() == 1 ? std::move(subscripts->children.front())
                                                            : finish(std::move(subscripts)));
  return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_subscript() {
  auto slice = make(ExpressionKind::kSlice, tokens_.current().position);
  const auto is_at_end = [&] { return tokens_.is_operator("]") || tokens_.is_operator(","); };
  if (tokens_.is_operator(":")) {
    slice->children.push_back(nullptr);
  } else {
    ExpressionPtr start = parse_expression();
    if (!tokens_.is_operator(":")) return start;
    slice->children.push_back(std::move(start));
  }
  tokens_.advance();
  slice->children.push_back(is_at_end() || tokens_.is_operator(":") ? nullptr : parse_expression());
  const bool has_step = tokens_.skip_operator(":");
  slice->children.push_back(!has_step || is_at_end() ? nullptr : parse_expression());
  return finish(std::move(slice));
}

ArgumentList ExpressionParser::parse_arguments() {
  const Token open = tokens_.current();
  tokens_.expect_operator("(");
  ArgumentList list;
  const auto require = [&](bool is_in_order) {
    if (!is_in_order)
      throw SyntaxFault("the arguments of a call are out of order", open.position.line, open.position.column);
  };
  bool is_first = true;
  while (!tokens_.is_operator(")")) {
    if (!is_first) tokens_.expect_operator(",");
    is_first = false;
    if (tokens_.is_operator(")")) break;
    if (tokens_.skip_operator("*")) {
      require(!list.unpacked_positional && !list.unpacked_keywords);
      list.unpacked_positional = parse_expression();
    } else if (tokens_.skip_operator("**")) {
      require(!list.unpacked_keywords);
      list.unpacked_keywords = parse_expression();
    } else if (tokens_.is(TokenKind::kName) && tokens_.next().kind == TokenKind::kOperator &&
               tokens_.next().text == "=") {
      require(!list.unpacked_keywords);
      std::string key = tokens_.advance().text;
      tokens_.advance();
      for (const auto& [present, value] : list.keywords) require(present != key);
      list.keywords.emplace_back(std::move(key), parse_expression());
    } else {
      require(!list.unpacked_positional && !list.unpacked_keywords && list.keywords.empty());
      list.positional.push_back(parse_expression());
    }
  }
  tokens_.expect_operator(")");
  return list;
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr callee) {
  auto node = make(ExpressionKind::kCall, tokens_.current().position);
  node->children.push_back(std::move(callee));
  node->arguments = parse_arguments();
  return finish(std::move(node));
}

std::string ExpressionParser::parse_dotted_name() {
  std::string name = tokens_.expect(TokenKind::kName, "a name").text;
  while (tokens_.skip_operator(".")) name += "." + tokens_.expect(TokenKind::kName, "a name").text;
  return name;
}

ExpressionPtr ExpressionParser::parse_filter(ExpressionPtr value) {
  auto node = make(ExpressionKind::kFilter, tokens_.current().position);
  node->text = parse_dotted_name();
  node->children.push_back(std::move(value));
  if (tokens_.is_operator("(")) node->arguments = parse_arguments();
  return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_filter_chain() {
  ExpressionPtr chain = parse_filter(nullptr);
  while (tokens_.skip_operator("|")) chain = parse_filter(std::move(chain));
  return chain;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr value) {
  const Position position = tokens_.advance().position;
  const bool is_negated = tokens_.skip_name("not");
  auto node = make(ExpressionKind::kTest, position);
  node->text = parse_dotted_name();
  node->children.push_back(std::move(value));
  const bool starts_argument = tokens_.is(TokenKind::kName) || tokens_.is(TokenKind::kString) ||
                               tokens_.is(TokenKind::kInteger) || tokens_.is(TokenKind::kFloat) ||
                               tokens_.is_operator("[") || tokens_.is_operator("{");
  if (tokens_.is_operator("(")) {
    node->arguments = parse_arguments();
  } else if (starts_argument && !tokens_.is_name("else") && !tokens_.is_name("or") && !tokens_.is_name("and")) {
    if (tokens_.is_name("is")) tokens_.fail("tests cannot be chained with 'is'");
    node->arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  ExpressionPtr test = finish(std::move(node));
  if (!is_negated) return test;
  auto negation = make(ExpressionKind::kNot, position);
  negation->children.push_back(std::move(test));
  return finish(std::move(negation));
}

}  // namespace dsft::text::jinja

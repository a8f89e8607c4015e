#include "text/jinja_expression_parser.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "text/jinja_fault.h"
#include "text/jinja_parser.h"

namespace dsft::text::jinja {

namespace {

bool is_comparison(const Token& token) {
  static constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
  return token.kind == TokenKind::kOperator &&
         std::find(std::begin(kOperators), std::end(kOperators), token.text) != std::end(kOperators);
}

int64_t integer_of(const TokenStream& tokens, const std::string& text) {
  int base = 10;
  const char* begin = text.data();
  const char prefix = text.size() > 2 && text[0] == '0' ? static_cast<char>(text[1] | 0x20) : '\0';
  if (prefix == 'x' || prefix == 'o' || prefix == 'b') {
    base = prefix == 'x' ? 16 : (prefix == 'o' ? 8 : 2);
    begin += 2;
  }
  int64_t value = 0;
  const auto result = std::from_chars(begin, text.data() + text.size(), value, base);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) {
    tokens.fail(concat("the integer ", text, " is malformed or does not fit 64 bits"));
  }
  return value;
}

}  // namespace

ExpressionParser::Depth::Depth(ExpressionParser& parser) : parser_(parser) {
  if (++parser_.depth_ > kMaxSourceNesting) {
    --parser_.depth_;
    parser_.tokens_.fail(concat("tags or expressions nest deeper than ", kMaxSourceNesting, " levels"));
  }
}

int ExpressionParser::number_of(const std::string& name) {
  const auto [it, is_new] = numbers_.emplace(name, static_cast<int>(names_.size()));
  if (is_new) names_.push_back(name);
  return it->second;
}

std::vector<std::string> ExpressionParser::take_names() {
  return std::move(names_);
}

ExpressionPtr ExpressionParser::make(ExpressionKind kind, Position position) {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->position = position;
  return expression;
}

// Left-associative chains grow a tree without deep parsing, so its height is bounded too: it is evaluated and destroyed
// recursively.
ExpressionPtr ExpressionParser::finish(ExpressionPtr expression) {
  constexpr int kMaxHeight = 4 * kMaxSourceNesting;
  for (const auto& child : expression->children) {
    if (child) expression->height = std::max(expression->height, child->height + 1);
  }
  if (expression->height > kMaxHeight) tokens_.fail(concat("an expression has more than ", kMaxHeight, " levels"));
  return expression;
}

ExpressionPtr ExpressionParser::make_binary(ExpressionKind kind, std::string op, ExpressionPtr left,
                                            ExpressionPtr right) {
  auto node = make(kind, left->position);
  node->text = std::move(op);
  node->children.push_back(std::move(left));
  node->children.push_back(std::move(right));
  return finish(std::move(node));
}

bool ExpressionParser::is_tuple_end(std::string_view stops_at) const {
  return tokens_.is(TokenKind::kVariableEnd) || tokens_.is(TokenKind::kBlockEnd) || tokens_.is_operator(")") ||
         (!stops_at.empty() && tokens_.is_name(stops_at));
}

ExpressionPtr ExpressionParser::parse_items(Ternary ternary, std::string_view stops_at, bool may_be_empty) {
  auto tuple = make(ExpressionKind::kTuple, tokens_.current().position);
  bool is_tuple = false;
  while (true) {
    if (!tuple->children.empty()) tokens_.expect_operator(",");
    if (is_tuple_end(stops_at)) break;
    tuple->children.push_back(ternary == Ternary::kAllowed ? parse_expression() : parse_or());
    if (!tokens_.is_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && tuple->children.size() == 1) return std::move(tuple->children.front());
  if (tuple->children.empty() && !may_be_empty)
    tokens_.fail(concat("expected an expression, got ", tokens_.describe()));
  return finish(std::move(tuple));
}

ExpressionPtr ExpressionParser::parse_tuple(std::string_view stops_at) {
  return parse_items(Ternary::kAllowed, stops_at, false);
}

ExpressionPtr ExpressionParser::parse_plain_tuple(std::string_view stops_at) {
  return parse_items(Ternary::kNotAllowed, stops_at, false);
}

int ExpressionParser::parse_target_name() {
  const Token& token = tokens_.expect(TokenKind::kName, "a name");
  static constexpr std::string_view kConstants[] = {"true", "false", "none", "True", "False", "None"};
  if (std::find(std::begin(kConstants), std::end(kConstants), token.text) != std::end(kConstants)) {
    throw SyntaxFault(concat("cannot assign to '", token.text, "'"), token.position.line, token.position.column);
  }
  return number_of(token.text);
}

Target ExpressionParser::parse_target(std::string_view stops_at) {
  const Depth depth(*this);
  Target tuple;
  tuple.is_tuple = true;
  bool has_comma = false;
  while (true) {
    if (!tuple.parts.empty()) tokens_.expect_operator(",");
    if (is_tuple_end(stops_at) || (stops_at == "=" && tokens_.is_operator("="))) break;
    Target part;
    if (tokens_.skip_operator("(")) {
      part = parse_target("");
      tokens_.expect_operator(")");
    } else {
      part.name = parse_target_name();
      if (stops_at == "=" && tokens_.skip_operator("."))
        part.attribute = tokens_.expect(TokenKind::kName, "a name").text;
    }
    tuple.parts.push_back(std::move(part));
    if (!tokens_.is_operator(",")) break;
    has_comma = true;
  }
  if (tuple.parts.empty()) tokens_.fail(concat("expected a name to assign to, got ", tokens_.describe()));
  if (has_comma) return tuple;
  Target only = std::move(tuple.parts.front());
  return only;
}

ExpressionPtr ExpressionParser::parse_expression() {
  const Depth depth(*this);
  ExpressionPtr value = parse_or();
  while (tokens_.skip_name("if")) {
    auto node = make(ExpressionKind::kConditional, value->position);
    node->children.push_back(parse_or());
    node->children.push_back(std::move(value));
    node->children.push_back(tokens_.skip_name("else") ? parse_expression() : nullptr);
    value = finish(std::move(node));
  }
  return value;
}

ExpressionPtr ExpressionParser::parse_or() {
  ExpressionPtr left = parse_and();
  while (tokens_.skip_name("or")) left = make_binary(ExpressionKind::kOr, "or", std::move(left), parse_and());
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  ExpressionPtr left = parse_not();
  while (tokens_.skip_name("and")) left = make_binary(ExpressionKind::kAnd, "and", std::move(left), parse_not());
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!tokens_.is_name("not")) return parse_comparison();
  const Depth depth(*this);
  auto node = make(ExpressionKind::kNot, tokens_.advance().position);
  node->children.push_back(parse_not());
  return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_comparison() {
  auto node = make(ExpressionKind::kCompare, tokens_.current().position);
  node->children.push_back(parse_sum());
  while (true) {
    if (is_comparison(tokens_.current())) {
      node->operators.push_back(tokens_.advance().text);
    } else if (tokens_.skip_name("in")) {
      node->operators.push_back("in");
    } else if (tokens_.is_name("not") && tokens_.next().kind == TokenKind::kName && tokens_.next().text == "in") {
      tokens_.advance();
      tokens_.advance();
      node->operators.push_back("not in");
    } else {
      break;
    }
    node->children.push_back(parse_sum());
  }
  if (node->operators.empty()) return std::move(node->children.front());
  return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concat();
  while (tokens_.is_operator("+") || tokens_.is_operator("-")) {
    std::string op = tokens_.advance().text;
    left = make_binary(ExpressionKind::kBinary, std::move(op), std::move(left), parse_concat());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concat() {
  auto node = make(ExpressionKind::kConcat, tokens_.current().position);
  node->children.push_back(parse_product());
  while (tokens_.skip_operator("~")) node->children.push_back(parse_product());
  if (node->children.size() == 1) return std::move(node->children.front());
  return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_product() {
  ExpressionPtr left = parse_power();
  while (tokens_.is_operator("*") || tokens_.is_operator("/") || tokens_.is_operator("//") ||
         tokens_.is_operator("%")) {
    std::string op = tokens_.advance().text;
    left = make_binary(ExpressionKind::kBinary, std::move(op), std::move(left), parse_power());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr left = parse_unary(Filters::kAllowed);
  while (tokens_.skip_operator("**")) {
    left = make_binary(ExpressionKind::kBinary, "**", std::move(left), parse_unary(Filters::kAllowed));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(Filters filters) {
  ExpressionPtr value;
  if (tokens_.is_operator("-") || tokens_.is_operator("+")) {
    const Depth depth(*this);
    const Token& token = tokens_.advance();
    value = make(token.text == "-" ? ExpressionKind::kNegate : ExpressionKind::kPlus, token.position);
    value->children.push_back(parse_unary(Filters::kNotAllowed));
    value = finish(std::move(value));
  } else {
    value = parse_primary();
  }
  value = parse_postfix(std::move(value));
  return filters == Filters::kAllowed ? parse_filters_and_tests(std::move(value)) : std::move(value);
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token token = tokens_.current();
  auto constant = make(ExpressionKind::kConstant, token.position);
  switch (token.kind) {
    case TokenKind::kName:
      return parse_name();
    case TokenKind::kString: {
      std::string text;
      while (tokens_.is(TokenKind::kString)) text += tokens_.advance().text;
      constant->constant = Value::words(std::move(text));
      return constant;
    }
    case TokenKind::kInteger:
      constant->constant = Value(integer_of(tokens_, tokens_.advance().text));
      return constant;
    case TokenKind::kFloat:
      constant->constant = Value(std::strtod(tokens_.advance().text.c_str(), nullptr));
      return constant;
    default:
      break;
  }
  if (tokens_.is_operator("[")) return parse_list();
  if (tokens_.is_operator("{")) return parse_dict();
  if (!tokens_.skip_operator("(")) tokens_.fail(concat("unexpected ", tokens_.describe()));
  ExpressionPtr inside = parse_items(Ternary::kAllowed, "", true);
  tokens_.expect_operator(")");
  return inside;
}

ExpressionPtr ExpressionParser::parse_name() {
  const Token token = tokens_.advance();
  auto node = make(ExpressionKind::kConstant, token.position);
  if (token.text == "true" || token.text == "True" || token.text == "false" || token.text == "False") {
    node->constant = Value(token.text == "true" || token.text == "True");
  } else if (token.text != "none" && token.text != "None") {
    node->kind = ExpressionKind::kName;
    node->text = token.text;
    node->name = number_of(token.text);
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_list() {
  auto node = make(ExpressionKind::kList, tokens_.advance().position);
  while (!tokens_.is_operator("]")) {
    if (!node->children.empty()) tokens_.expect_operator(",");
    if (tokens_.is_operator("]")) break;
    node->children.push_back(parse_expression());
  }
  tokens_.expect_operator("]");
  return finish(std::move(node));
}

ExpressionPtr ExpressionParser::parse_dict() {
  auto node = make(ExpressionKind::kDict, tokens_.advance().position);
  while (!tokens_.is_operator("}")) {
    if (!node->children.empty()) tokens_.expect_operator(",");
    if (tokens_.is_operator("}")) break;
    node->children.push_back(parse_expression());
    tokens_.expect_operator(":");
    node->children.push_back(parse_expression());
  }
  tokens_.expect_operator("}");
  return finish(std::move(node));
}

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
    index->constant = Value(integer_of(tokens_, token.text));
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

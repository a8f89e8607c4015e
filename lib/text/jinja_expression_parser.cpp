// Operators and what stands between them.
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
      constant->constant = Value(integer_of(tokens_.advance().text));
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

int64_t ExpressionParser::integer_of(const std::string& text) const {
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
    tokens_.fail(concat("the integer ", text, " is malformed or does not fit 64 bits"));
  }
  return value;
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

}  // namespace dsft::text::jinja

#include "text/jinja_parser.h"

#include <algorithm>
#include <initializer_list>

#include "text/jinja_expression_parser.h"
#include "text/jinja_fault.h"

namespace dsft::text::jinja {

namespace {

bool says(const Block& block, int name) {
  bool found = false;
  visit_expressions(block,
                    [&](const Expression& e) { found = found || (e.kind == ExpressionKind::kName && e.name == name); });
  return found;
}

class StatementParser {
 public:
  explicit StatementParser(std::string_view source) : tokens_(tokenize(source)), expressions_(tokens_) {}

  Template run() {
    result_.loop_name = expressions_.number_of("loop");
    result_.varargs_name = expressions_.number_of("varargs");
    result_.kwargs_name = expressions_.number_of("kwargs");
    result_.caller_name = expressions_.number_of("caller");
    result_.body = parse_block({});
    result_.names = expressions_.take_names();
    return std::move(result_);
  }

 private:
  using EndTags = std::initializer_list<std::string_view>;

  bool is_end_tag(EndTags end_tags) const {
    return std::any_of(end_tags.begin(), end_tags.end(), [&](std::string_view tag) { return tokens_.is_name(tag); });
  }

  StatementPtr make(StatementKind kind) {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->position = tokens_.current().position;
    return statement;
  }

  // Statements up to one of the end tags, which is left as the current token; up to the end of the template without end
  // tags.
  Block parse_block(EndTags end_tags) {
    const ExpressionParser::Depth depth(expressions_);
    Block block;
    while (!tokens_.is(TokenKind::kEnd)) {
      if (tokens_.is(TokenKind::kData)) {
        auto text = make(StatementKind::kText);
        text->constant = Value::words(tokens_.advance().text);
        block.push_back(std::move(text));
      } else if (tokens_.is(TokenKind::kVariableBegin)) {
        auto print = make(StatementKind::kPrint);
        tokens_.advance();
        print->expression = expressions_.parse_tuple();
        tokens_.expect(TokenKind::kVariableEnd, "'}}'");
        block.push_back(std::move(print));
      } else {
        tokens_.expect(TokenKind::kBlockBegin, "a tag");
        if (is_end_tag(end_tags)) return block;
        parse_statement(block, end_tags);
        tokens_.expect(TokenKind::kBlockEnd, "'%}'");
      }
    }
    if (end_tags.size() > 0) tokens_.fail(concat("the template ends, but '", *(end_tags.end() - 1), "' is missing"));
    return block;
  }

  // The body of a tag: from after its last word to one of the end tags.
  Block parse_body(EndTags end_tags) {
    tokens_.skip_operator(":");
    tokens_.expect(TokenKind::kBlockEnd, "'%}'");
    return parse_block(end_tags);
  }

  Block parse_whole_body(std::string_view end_tag) {
    Block body = parse_body({end_tag});
    tokens_.advance();
    return body;
  }

  void parse_statement(Block& block, EndTags end_tags) {
    if (!tokens_.is(TokenKind::kName)) tokens_.fail(concat("expected the name of a tag, got ", tokens_.describe()));
    const std::string tag = tokens_.current().text;
    if (tag == "if") return block.push_back(parse_if());
    if (tag == "for") return block.push_back(parse_for());
    if (tag == "set") return block.push_back(parse_set());
    if (tag == "macro") return block.push_back(parse_macro());
    if (tag == "call") return block.push_back(parse_call_block());
    if (tag == "filter") return block.push_back(parse_filter_block());
    if (tag == "with") return block.push_back(parse_with());
    if (tag == "generation") return block.push_back(parse_generation());
    if (tag == "break" || tag == "continue") return block.push_back(parse_loop_control(tag));
    if (tag == "print") return parse_print(block);
    fail_unknown_tag(tag, end_tags);
  }

  [[noreturn]] void fail_unknown_tag(const std::string& tag, EndTags end_tags) {
    static constexpr std::string_view kRefused[] = {"include", "import", "from", "extends", "block", "autoescape"};
    if (std::find(std::begin(kRefused), std::end(kRefused), tag) != std::end(kRefused)) {
      tokens_.fail(
          concat("the tag '", tag, "' is not supported: a chat template is one file without escaping or inheritance"));
    }
    if (tag == "do") {
      tokens_.fail("the tag 'do' is not supported: neither does transformers' apply_chat_template; use 'set'");
    }
    const std::string missing = end_tags.size() > 0 ? concat("; '", *(end_tags.end() - 1), "' is still missing") : "";
    tokens_.fail(concat("unknown tag '", tag, "'", missing));
  }

  StatementPtr parse_if() {
    auto statement = make(StatementKind::kIf);
    tokens_.advance();
    statement->expression = expressions_.parse_plain_tuple();
    statement->body = parse_body({"elif", "else", "endif"});
    if (tokens_.is_name("elif")) {
      const ExpressionParser::Depth depth(expressions_);
      statement->otherwise.push_back(parse_if());
      return statement;
    }
    if (tokens_.advance().text == "else") statement->otherwise = parse_whole_body("endif");
    return statement;
  }

  StatementPtr parse_for() {
    auto statement = make(StatementKind::kFor);
    tokens_.advance();
    statement->target = expressions_.parse_target("in");
    tokens_.expect_name("in");
    statement->expression = expressions_.parse_plain_tuple("recursive");
    if (tokens_.skip_name("if")) statement->filter = expressions_.parse_expression();
    statement->is_recursive = tokens_.skip_name("recursive");
    ++loops_;
    statement->body = parse_body({"else", "endfor"});
    --loops_;
    if (tokens_.advance().text == "else") statement->otherwise = parse_whole_body("endfor");
    return statement;
  }

  StatementPtr parse_set() {
    auto statement = make(StatementKind::kSet);
    tokens_.advance();
    statement->target = expressions_.parse_target("=");
    if (tokens_.skip_operator("=")) {
      statement->expression = expressions_.parse_tuple();
      return statement;
    }
    statement->kind = StatementKind::kSetBlock;
    if (tokens_.skip_operator("|")) statement->expression = expressions_.parse_filter_chain();
    statement->body = parse_whole_body("endset");
    return statement;
  }

  void parse_parameters(Statement& statement) {
    tokens_.expect_operator("(");
    while (!tokens_.is_operator(")")) {
      if (!statement.parameters.empty()) tokens_.expect_operator(",");
      Parameter parameter;
      parameter.text = tokens_.current().text;
      parameter.name = expressions_.parse_target_name();
      if (tokens_.skip_operator("=")) {
        parameter.default_value = expressions_.parse_expression();
      } else if (!statement.parameters.empty() && statement.parameters.back().default_value) {
        tokens_.fail("a parameter without default follows one with a default");
      }
      statement.parameters.push_back(std::move(parameter));
    }
    tokens_.expect_operator(")");
  }

  void parse_macro_body(Statement& statement, std::string_view end_tag) {
    const int loops = std::exchange(loops_, 0);
    statement.body = parse_whole_body(end_tag);
    loops_ = loops;
    statement.takes_varargs = says(statement.body, result_.varargs_name);
    statement.takes_kwargs = says(statement.body, result_.kwargs_name);
    statement.takes_caller = says(statement.body, result_.caller_name);
  }

  StatementPtr parse_macro() {
    auto statement = make(StatementKind::kMacro);
    tokens_.advance();
    statement->text = tokens_.current().text;
    statement->name = expressions_.parse_target_name();
    parse_parameters(*statement);
    parse_macro_body(*statement, "endmacro");
    return statement;
  }

  StatementPtr parse_call_block() {
    auto statement = make(StatementKind::kCallBlock);
    tokens_.advance();
    statement->text = "caller";
    if (tokens_.is_operator("(")) parse_parameters(*statement);
    statement->expression = expressions_.parse_expression();
    if (statement->expression->kind != ExpressionKind::kCall) tokens_.fail("the tag 'call' needs the call of a macro");
    parse_macro_body(*statement, "endcall");
    return statement;
  }

  StatementPtr parse_filter_block() {
    auto statement = make(StatementKind::kFilterBlock);
    tokens_.advance();
    statement->expression = expressions_.parse_filter_chain();
    statement->body = parse_whole_body("endfilter");
    return statement;
  }

  StatementPtr parse_with() {
    auto statement = make(StatementKind::kWith);
    tokens_.advance();
    while (!tokens_.is(TokenKind::kBlockEnd)) {
      if (!statement->assignments.empty()) tokens_.expect_operator(",");
      Target target;
      target.name = expressions_.parse_target_name();
      tokens_.expect_operator("=");
      statement->assignments.emplace_back(std::move(target), expressions_.parse_expression());
    }
    statement->body = parse_whole_body("endwith");
    return statement;
  }

  StatementPtr parse_generation() {
    auto statement = make(StatementKind::kGeneration);
    tokens_.advance();
    result_.has_generation = true;
    const int loops = std::exchange(loops_, 0);
    statement->body = parse_whole_body("endgeneration");
    loops_ = loops;
    return statement;
  }

  StatementPtr parse_loop_control(const std::string& tag) {
    if (loops_ == 0) tokens_.fail(concat("the tag '", tag, "' stands outside a loop"));
    auto statement = make(tag == "break" ? StatementKind::kBreak : StatementKind::kContinue);
    tokens_.advance();
    return statement;
  }

  void parse_print(Block& block) {
    tokens_.advance();
    while (!tokens_.is(TokenKind::kBlockEnd)) {
      auto print = make(StatementKind::kPrint);
      print->expression = expressions_.parse_expression();
      block.push_back(std::move(print));
      if (!tokens_.is(TokenKind::kBlockEnd)) tokens_.expect_operator(",");
    }
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  Template result_;
  int loops_ = 0;
};

}  // namespace

int Template::find_name(std::string_view name) const {
  const auto it = std::find(names.begin(), names.end(), name);
  return it == names.end() ? -1 : static_cast<int>(it - names.begin());
}

Template parse(std::string_view source) {
  if (source.size() > kMaxSourceBytes)
    throw SyntaxFault(concat("the template is larger than ", kMaxSourceBytes, " bytes"), 1, 1);
  return StatementParser(source).run();
}

}  // namespace dsft::text::jinja

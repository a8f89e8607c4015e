#pragma once

#include <string_view>
#include <vector>

#include "text/jinja_lexer.h"

namespace dsft::text::jinja {

/// The tokens of a template with the questions that a recursive descent asks.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& advance();

  bool is(TokenKind kind) const { return current().kind == kind; }
  bool is_operator(std::string_view text) const { return is(TokenKind::kOperator) && current().text == text; }
  bool is_name(std::string_view text) const { return is(TokenKind::kName) && current().text == text; }
  bool skip_operator(std::string_view text);
  bool skip_name(std::string_view text);

  const Token& expect(TokenKind kind, std::string_view what);
  void expect_operator(std::string_view text);
  void expect_name(std::string_view text);
  /// Throws SyntaxFault at the current token.
  [[noreturn]] void fail(const std::string& message) const;
  /// The current token as a message names it.
  std::string describe() const;

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
};

}  // namespace dsft::text::jinja

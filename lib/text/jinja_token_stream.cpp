#include "text/jinja_token_stream.h"

#include "text/jinja_fault.h"

namespace dsft::text::jinja {

const Token& TokenStream::advance() {
  const Token& token = tokens_[at_];
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool TokenStream::skip_operator(std::string_view text) {
  if (!is_operator(text)) return false;
  advance();
  return true;
}

bool TokenStream::skip_name(std::string_view text) {
  if (!is_name(text)) return false;
  advance();
  return true;
}

const Token& TokenStream::expect(TokenKind kind, std::string_view what) {
  if (!is(kind)) fail(concat("expected ", what, ", got ", describe()));
  return advance();
}

void TokenStream::expect_operator(std::string_view text) {
  if (!skip_operator(text)) fail(concat("expected '", text, "', got ", describe()));
}

void TokenStream::expect_name(std::string_view text) {
  if (!skip_name(text)) fail(concat("expected '", text, "', got ", describe()));
}

void TokenStream::fail(const std::string& message) const {
  throw SyntaxFault(message, current().position.line, current().position.column);
}

std::string TokenStream::describe() const {
  switch (current().kind) {
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kData:
      return "text";
    case TokenKind::kString:
      return "a string";
    default:
      return concat("'", current().text, "'");
  }
}

}  // namespace dsft::text::jinja

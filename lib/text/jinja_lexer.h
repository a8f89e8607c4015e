#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_ast.h"

namespace dsft::text::jinja {

enum class TokenKind {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;  ///< a string's value, unescaped; a number as written, without '_'
  Position position;
};

/// Cuts a template into tokens as jinja2 3.1 does with trim_blocks, lstrip_blocks and one dropped newline at the end.
/// Throws SyntaxFault.
std::vector<Token> tokenize(std::string_view source);

}  // namespace dsft::text::jinja

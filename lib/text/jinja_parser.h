#pragma once

#include <string_view>

#include "text/jinja_ast.h"

namespace dsft::text::jinja {

/// Templates larger than this are refused (bytes).
inline constexpr size_t kMaxSourceBytes = 1u << 20;
/// Tags and expressions nest at most so deep.
inline constexpr int kMaxSourceNesting = 120;

/// Parses a template as jinja2 3.1 with the loop controls and {% generation %}, which is what transformers'
/// apply_chat_template sets up. Throws SyntaxFault.
Template parse(std::string_view source);

}  // namespace dsft::text::jinja

#pragma once

#include <stdexcept>
#include <string>

#include "base/error.h"

namespace dsft::text::jinja {

/// A template cannot be read: what is wrong and where (1-based).
struct SyntaxFault : std::runtime_error {
  SyntaxFault(const std::string& message, int at_line, int at_column)
      : std::runtime_error(message), line(at_line), column(at_column) {}
  int line;
  int column;
};

/// A template cannot be rendered; whoever runs it knows the position.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <typename... Parts>
[[noreturn]] void fail_render(const Parts&... parts) {
  throw Fault(dsft::concat(parts...));
}

}  // namespace dsft::text::jinja

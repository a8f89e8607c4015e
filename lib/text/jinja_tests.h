#pragma once

#include <string>

#include "text/jinja_interpreter.h"

namespace dsft::text::jinja {

/// One test of `x is name(...)`.
struct Test {
  bool (*apply)(Interpreter&, const Value& value, Arguments arguments);
};

/// nullptr where there is no such test.
const Test* find_test(const std::string& name);

}  // namespace dsft::text::jinja

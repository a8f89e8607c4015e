#pragma once

#include <string>

#include "text/jinja_interpreter.h"
#include "text/jinja_value.h"

namespace dsft::text::jinja {

/// + - * / // % ** with Python's meaning. Throws Fault where Python raises, and where an integer leaves 64 bits.
Value apply_operator(Interpreter& interpreter, const std::string& op, const Value& left, const Value& right);
Value negate(const Value& value);
Value unary_plus(const Value& value);

/// value[start:stop:step] of a string, list, tuple or range; None is a left-out bound.
Value slice_of(const Value& value, const Value& start, const Value& stop, const Value& step);

/// & < > " ' as MarkupSafe escapes them.
Text escape_html(const Text& text);

}  // namespace dsft::text::jinja

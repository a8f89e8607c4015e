#pragma once

#include "text/jinja_interpreter.h"
#include "text/jinja_value.h"

namespace dsft::text::jinja {

/// "..." % value, with %s %r %d %i %u %f %F %e %E %g %G %x %X %o %c %% and %(name)s; a tuple gives several values, a
/// dict the named ones.
Text format_percent(const Text& format, const Value& values);

/// "...".format(*args, **kwargs), with {} {0} {name} {0.attribute} {0[key]}, !r !s and the format specification of
/// strings and numbers.
Text format_braces(Interpreter& interpreter, const Text& format, const Arguments& arguments);

}  // namespace dsft::text::jinja

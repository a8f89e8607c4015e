#pragma once

#include <string>

#include "text/jinja_value.h"

namespace dsft::text::jinja {

/// Python's methods of str, dict, list and tuple, bound to `object`. False where the type has no such method. A method
/// that changes its object gives an Undefined that says so when called, as in the peer's sandbox.
bool find_method(const Value& object, const std::string& name, Value& method);

}  // namespace dsft::text::jinja

#pragma once

#include <string>

#include "text/jinja_value.h"

namespace dsft::text::jinja {

/// The method `name` of str bound to a text; false where there is none.
bool find_string_method(const TextPtr& text, const std::string& name, Value& method);

}  // namespace dsft::text::jinja

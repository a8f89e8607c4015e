#pragma once

#include <map>
#include <string>

#include "text/jinja_interpreter.h"

namespace dsft::text::jinja {

/// One filter of `x | name(...)`.
struct Filter {
  Value (*apply)(Interpreter&, const Value& input, Arguments arguments);
};

using FilterTable = std::map<std::string_view, Filter>;

/// nullptr where there is no such filter.
const Filter* find_filter(const std::string& name);

/// The parts of the table: filters of strings and numbers, of sequences, and tojson.
const FilterTable& text_filters();
const FilterTable& sequence_filters();

}  // namespace dsft::text::jinja

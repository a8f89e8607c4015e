#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "text/jinja_value.h"

namespace dsft::text::jinja {

/// A JSON value as the template sees it; every string of it has `origin`. Throws Fault where it nests too deep.
Value value_of_json(const nlohmann::ordered_json& json, Origin origin);

/// How json.dumps writes.
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool is_indented = false;
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

/// json.dumps(value); strings keep the origin of their bytes. Throws Fault for what JSON cannot say.
Text dump_json(const Value& value, const JsonStyle& style);

}  // namespace dsft::text::jinja

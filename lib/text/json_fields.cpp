#include "text/json_fields.h"

#include "base/error.h"

namespace dsft::text {

JsonFields::JsonFields(const nlohmann::json& value, std::string where) : value_(value), where_(std::move(where)) {
  if (!value_.is_object()) fail_here(concat("must be an object, not ", value_.type_name()));
}

void JsonFields::fail_here(const std::string& what) const {
  fail(ErrorKind::kCheckpoint, where_, ": ", what);
}

bool JsonFields::has(const char* name) const {
  auto found = value_.find(name);
  return found != value_.end() && !found->is_null();
}

const nlohmann::json& JsonFields::value(const char* name) const {
  auto found = value_.find(name);
  if (found == value_.end()) fail_here(concat("the field \"", name, "\" is missing"));
  return *found;
}

const nlohmann::json& JsonFields::array(const char* name) const {
  const auto& found = value(name);
  if (!found.is_array()) fail_here(concat("the field \"", name, "\" must be a list"));
  return found;
}

std::string JsonFields::string(const char* name) const {
  const auto& found = value(name);
  if (!found.is_string()) fail_here(concat("the field \"", name, "\" must be a string"));
  return found.get<std::string>();
}

std::string JsonFields::string_or(const char* name, std::string fallback) const {
  return has(name) ? string(name) : std::move(fallback);
}

std::string JsonFields::short_string(const char* name) const {
  constexpr size_t kMaxSize = 64;
  std::string text = string(name);
  if (text.size() > kMaxSize) fail_here(concat("\"", name, "\" is longer than ", kMaxSize, " bytes"));
  return text;
}

bool JsonFields::boolean(const char* name) const {
  const auto& found = value(name);
  if (!found.is_boolean()) fail_here(concat("the field \"", name, "\" must be true or false"));
  return found.get<bool>();
}

bool JsonFields::boolean_or(const char* name, bool fallback) const {
  return has(name) ? boolean(name) : fallback;
}

int64_t JsonFields::integer(const char* name) const {
  const auto& found = value(name);
  if (!found.is_number_integer()) fail_here(concat("the field \"", name, "\" must be a whole number"));
  return found.get<int64_t>();
}

int64_t JsonFields::integer_or(const char* name, int64_t fallback) const {
  return has(name) ? integer(name) : fallback;
}

}  // namespace dsft::text

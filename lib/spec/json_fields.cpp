#include "spec/json_fields.h"

namespace dsft::spec {

namespace {

std::string shown(const nlohmann::json& value) {
  const std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return text.size() <= 80 ? text : text.substr(0, 77) + "...";
}

}  // namespace

bool JsonFields::has(const std::string& key) const {
  const auto at = object_.find(key);
  return at != object_.end() && !at->is_null();
}

int64_t JsonFields::integer(const std::string& key, int64_t fallback, int64_t lowest, int64_t highest) const {
  if (!has(key)) return fallback;
  const nlohmann::json& value = object_.at(key);
  const bool fits = value.is_number_integer() &&
                    !(value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
  if (!fits || value.get<int64_t>() < lowest || value.get<int64_t>() > highest) {
    fault(key, "is ", shown(value), "; it must be an integer from ", lowest, " to ", highest);
    return fallback;
  }
  return value.get<int64_t>();
}

double JsonFields::number(const std::string& key, double fallback, double lowest, double highest) const {
  return optional_number(key, lowest, highest).value_or(fallback);
}

std::optional<double> JsonFields::optional_number(const std::string& key, double lowest, double highest) const {
  if (!has(key)) return std::nullopt;
  const nlohmann::json& value = object_.at(key);
  if (!value.is_number() || !(value.get<double>() >= lowest && value.get<double>() <= highest)) {
    fault(key, "is ", shown(value), "; it must be a number from ", lowest, " to ", highest);
    return std::nullopt;
  }
  return value.get<double>();
}

bool JsonFields::boolean(const std::string& key, bool fallback) const {
  if (!has(key)) return fallback;
  const nlohmann::json& value = object_.at(key);
  if (!value.is_boolean()) {
    fault(key, "is ", shown(value), "; it must be true or false");
    return fallback;
  }
  return value.get<bool>();
}

std::string JsonFields::text(const std::string& key, const std::string& fallback) const {
  if (!has(key)) return fallback;
  const nlohmann::json& value = object_.at(key);
  if (!value.is_string()) {
    fault(key, "is ", shown(value), "; it must be a string");
    return fallback;
  }
  return value.get<std::string>();
}

std::optional<int32_t> JsonFields::token_id(const std::string& key, std::optional<int32_t> fallback) const {
  if (!is_written(key)) return fallback;
  const int64_t id = integer(key, -1, INT32_MIN, INT32_MAX);
  if (id < 0) return std::nullopt;
  return static_cast<int32_t>(id);
}

std::vector<int32_t> JsonFields::token_ids(const std::string& key, std::vector<int32_t> fallback) const {
  if (!is_written(key)) return fallback;
  if (!has(key)) return {};
  if (!object_.at(key).is_array()) {
    const auto id = token_id(key, std::nullopt);
    return id ? std::vector<int32_t>{*id} : std::vector<int32_t>{};
  }
  std::vector<int32_t> ids;
  for (const nlohmann::json& value : object_.at(key)) {
    if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() > INT32_MAX) {
      fault(key, "holds ", shown(value), "; it must be a list of token ids");
      return fallback;
    }
    ids.push_back(value.get<int32_t>());
  }
  return ids;
}

void fail_on_faults(const std::vector<std::string>& faults, const std::filesystem::path& file, ErrorKind kind) {
  if (faults.empty()) return;
  if (faults.size() == 1) fail(kind, file.string(), ": ", faults[0], ".");
  std::string text = concat(file.string(), " has ", faults.size(), " faults:");
  for (const std::string& fault : faults) text += "\n  - " + fault;
  fail(kind, text);
}

}  // namespace dsft::spec

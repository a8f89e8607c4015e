#include "text/tokenizer_config.h"

#include <algorithm>
#include <array>

#include "io/json.h"
#include "text/json_fields.h"

namespace dsft::text {
namespace {

constexpr auto kStandardRoles = std::to_array<std::string_view>(
    {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"});

bool is_standard(const std::string& name) {
  return std::find(kStandardRoles.begin(), kStandardRoles.end(), name) != kStandardRoles.end();
}

void add(SpecialTokenMap& roles, const std::string& name, std::string token) {
  if (!token.empty() && find_role(roles, name).empty()) roles.emplace_back(name, std::move(token));
}

void read_roles(const nlohmann::json& json, const std::string& where, SpecialTokenMap& roles) {
  const JsonFields fields(json, where);
  for (const auto& [name, value] : json.items()) {
    const bool is_role = is_standard(name) || (name.ends_with("_token") && value.is_string());
    if (!is_role || value.is_null()) continue;
    add(roles, name,
        value.is_object() ? JsonFields(value, where + ": " + name).string("content") : fields.string(name.c_str()));
  }
  const auto extra = json.find("extra_special_tokens");
  if (extra == json.end() || !extra->is_object()) return;
  for (const auto& [name, value] : extra->items()) {
    if (value.is_string()) add(roles, name, value.get<std::string>());
    if (value.is_object()) add(roles, name, JsonFields(value, where + ": " + name).string("content"));
  }
}

}  // namespace

std::string find_role(const SpecialTokenMap& roles, const std::string& name) {
  const auto found = std::find_if(roles.begin(), roles.end(), [&](const auto& role) { return role.first == name; });
  return found == roles.end() ? "" : found->second;
}

SpecialTokenMap read_token_roles(const std::filesystem::path& directory) {
  SpecialTokenMap roles;
  const auto config_file = directory / "tokenizer_config.json";
  const auto map_file = directory / "special_tokens_map.json";
  const auto config = std::filesystem::exists(config_file) ? io::read_json_file(config_file) : nlohmann::json::object();
  const auto map = std::filesystem::exists(map_file) ? io::read_json_file(map_file) : nlohmann::json::object();
  const bool is_old = config.is_object() && !config.contains("added_tokens_decoder");
  if (is_old) read_roles(map, map_file.string(), roles);
  read_roles(config, config_file.string(), roles);
  read_roles(map, map_file.string(), roles);
  return roles;
}

}  // namespace dsft::text

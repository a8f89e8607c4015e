#include "text/tokenizer_config.h"

#include "io/json.h"
#include "text/json_fields.h"

namespace dsft::text {
namespace {

void read_role(const JsonFields& fields, const char* name, std::string& role) {
  if (!role.empty() || !fields.has(name)) return;
  const auto& value = fields.value(name);
  role = value.is_object() ? JsonFields(value, fields.where() + ": " + name).string("content") : fields.string(name);
}

void read_roles(const std::filesystem::path& file, TokenRoles& roles) {
  if (!std::filesystem::exists(file)) return;
  const auto json = io::read_json_file(file);
  const JsonFields fields(json, file.string());
  read_role(fields, "bos_token", roles.bos);
  read_role(fields, "eos_token", roles.eos);
  read_role(fields, "pad_token", roles.pad);
  read_role(fields, "unk_token", roles.unk);
}

}  // namespace

TokenRoles read_token_roles(const std::filesystem::path& directory) {
  TokenRoles roles;
  read_roles(directory / "tokenizer_config.json", roles);
  read_roles(directory / "special_tokens_map.json", roles);
  return roles;
}

}  // namespace dsft::text

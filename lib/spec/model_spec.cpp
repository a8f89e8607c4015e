#include "spec/model_spec.h"

#include <array>
#include <nlohmann/json.hpp>

#include "base/nearest_name.h"
#include "io/json.h"
#include "spec/adapter_settings.h"
#include "spec/families/families.h"
#include "spec/json_fields.h"

namespace dsft::spec {

namespace {

struct FamilyRow {
  const char* model_type;
  ReadFamily read;
};
constexpr std::array<FamilyRow, 3> kFamilies = {{{"llama", read_llama}, {"qwen2", read_qwen2}, {"qwen3", read_qwen3}}};

const FamilyRow& find_family(const nlohmann::json& config, const std::filesystem::path& file) {
  const std::string known = join_words(known_model_types());
  if (!config.is_object() || !config.contains("model_type") || !config["model_type"].is_string()) {
    fail(ErrorKind::kCheckpoint, file.string(),
         ": model_type is missing. Is it the config.json of a Hugging Face checkpoint? dsft knows ", known, ".");
  }
  const std::string name = config["model_type"].get<std::string>();
  for (const FamilyRow& row : kFamilies) {
    if (name == row.model_type) return row;
  }
  fail(ErrorKind::kCheckpoint, file.string(), ": model_type is \"", name.substr(0, 80), "\"; dsft knows ", known, ".");
}

}  // namespace

ModelSpec read_model_spec_file(const std::filesystem::path& config_file) {
  const nlohmann::json config = io::read_json_file(config_file);
  const FamilyRow& family = find_family(config, config_file);
  std::vector<std::string> faults;
  ModelSpec spec = family.read(config, faults);
  fail_on_faults(faults, config_file);
  return spec;
}

ModelSpec read_model_spec(const std::filesystem::path& directory) {
  if (!std::filesystem::exists(directory / "config.json")) {
    if (std::filesystem::exists(directory / "adapter_config.json"))
      fail(ErrorKind::kCheckpoint, directory.string(),
           " holds an adapter, not a model. Name its base as the model (adapter_config.json says ",
           read_adapter_settings(directory).base_model_name_or_path, ") and this folder as the adapter: --adapter ",
           directory.string(), ", or lora.adapter in a recipe.");
    fail(ErrorKind::kCheckpoint, directory.string(),
         " holds no config.json: it is no folder of a Hugging Face checkpoint.");
  }
  return read_model_spec_file(directory / "config.json");
}

std::vector<std::string> known_model_types() {
  std::vector<std::string> names;
  for (const FamilyRow& row : kFamilies) names.emplace_back(row.model_type);
  return names;
}

}  // namespace dsft::spec

#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lora/lora_config.h"
#include "spec/model_spec.h"

namespace dsft::spec {

/// What adapter_config.json says.
struct AdapterSettings {
  lora::LoraConfig lora;
  std::string base_model_name_or_path;
  std::optional<std::string> revision;
  std::vector<std::string> warnings;  ///< keys with a value that dsft does not know, one sentence each
};

/// Reads DIR/adapter_config.json as PEFT writes it (0.21.2 and older). Throws kCheckpoint, all faults at once: no LoRA,
/// DoRA and other variants that dsft does not compute, starting values that altered the base model (pissa, olora, ...),
/// by name.
AdapterSettings read_adapter_settings(const std::filesystem::path& directory);

/// The text of adapter_config.json: the keys that all PEFT releases know, sorted, indent 2. "all-linear" is written as
/// the names that it stands for, and names that PEFT would resolve stay as they are.
std::string format_adapter_settings(const AdapterSettings& settings, const ModelSpec& spec);

}  // namespace dsft::spec

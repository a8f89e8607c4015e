#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "spec/model_spec.h"

namespace dsft::spec {

/// Reads config.json of one family; faults are added to the list, with the key in front.
using ReadFamily = ModelSpec (*)(const nlohmann::json& config, std::vector<std::string>& faults);

ModelSpec read_llama(const nlohmann::json& config, std::vector<std::string>& faults);
ModelSpec read_qwen2(const nlohmann::json& config, std::vector<std::string>& faults);
ModelSpec read_qwen3(const nlohmann::json& config, std::vector<std::string>& faults);

}  // namespace dsft::spec

#pragma once

#include <string>
#include <vector>

#include "lora/lora_config.h"
#include "spec/model_spec.h"

namespace dsft::spec {

/// Something to say of a key of `lora` on a certain model.
struct LoraRemark {
  std::string key;  ///< "target_modules"
  std::string message;
  bool is_fault = false;  ///< else a warning: the entry has no effect
};

/// What of written LoRA settings matches nothing of a model: a fault for each name of target_modules (PEFT passes over
/// it in silence where another name matches), a warning for entries of exclude_modules, layers_to_transform,
/// rank_pattern and alpha_pattern. For settings that a user wrote, not for those of an adapter on disk, whose list may
/// hold the names of other families. Throws as match_lora_targets where nothing is chosen at all.
std::vector<LoraRemark> check_lora_names(const ModelSpec& spec, const lora::LoraConfig& config);

}  // namespace dsft::spec

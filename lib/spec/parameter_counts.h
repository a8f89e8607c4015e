#pragma once

#include <cstdint>

#include "lora/lora_config.h"
#include "spec/model_spec.h"

namespace dsft::spec {

/// Numbers of parameters, as PEFT's print_trainable_parameters gives them.
struct ParameterCounts {
  int64_t model = 0;      ///< of the checkpoint, a tied pair once
  int64_t trainable = 0;  ///< A and B, modules_to_save and biases; all without LoRA
  int64_t total = 0;      ///< the model's, A and B, and the copies that modules_to_save trains
};

/// Counts what a run on this model trains; `lora` null: all weights. Throws kUsage as match_lora_targets does.
ParameterCounts count_parameters(const ModelSpec& spec, const lora::LoraConfig* lora);

}  // namespace dsft::spec

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "lora/lora_config.h"
#include "spec/model_spec.h"

namespace dsft::spec {

/// A tensor of adapter_model.safetensors.
struct AdapterTensor {
  enum class Kind { kLoraA, kLoraB, kSaved, kBias };
  Kind kind = Kind::kLoraA;
  std::string file_name;  ///< "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
  std::string target;     ///< of lora_A, lora_B: the module; otherwise the model's own tensor ("lm_head.weight")
  std::vector<int64_t> shape;
};

/// The tensors that PEFT saves for these settings: lora_A and lora_B of each target, the tensors of modules_to_save,
/// biases (all, or those of adapted modules).
std::vector<AdapterTensor> adapter_inventory(const ModelSpec& spec, const lora::LoraConfig& config);

/// One sentence per missing, unexpected or misshapen tensor.
std::vector<std::string> check_adapter(const std::vector<AdapterTensor>& inventory, const io::SafetensorsSet& weights);

}  // namespace dsft::spec

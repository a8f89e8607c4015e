#pragma once

#include <map>

#include "checkpoint/tensor_file.h"
#include "checkpoint/writing_ranks.h"
#include "spec/adapter_settings.h"
#include "spec/model_spec.h"

namespace dsft::checkpoint {

/// The low-rank update of one module: scale * B A.
struct AdapterModule {
  at::Tensor a;  ///< [r, in], fp32
  at::Tensor b;  ///< [out, r], fp32
  int64_t r = 0;
  double lora_alpha = 0;
  double scale = 0;  ///< lora_alpha / r, or lora_alpha / sqrt(r)
};

/// All tensors of a LoRA adapter, on the CPU when loaded. Tensors of the model itself stand under their own names
/// ("lm_head.weight").
struct AdapterWeights {
  std::map<std::string, AdapterModule> modules;       ///< by module path
  std::map<std::string, at::Tensor> modules_to_save;  ///< weights trained whole
  std::map<std::string, at::Tensor> biases;           ///< with bias all or lora_only
};

/// An adapter folder as it was read.
struct Adapter {
  spec::AdapterSettings settings;
  AdapterWeights weights;
};

/// Writes adapter_model.safetensors and adapter_config.json as PEFT does; the loaders of PEFT and vLLM take them
/// unchanged. The weights must be those that the settings choose on this model; of those that the ranks share, a block
/// at a time is whole. Collective.
void save_adapter(const std::filesystem::path& directory, const spec::ModelSpec& spec,
                  const spec::AdapterSettings& settings, const AdapterWeights& weights, WritingRanks& ranks);
/// The same where this process has all of them.
void save_adapter(const std::filesystem::path& directory, const spec::ModelSpec& spec,
                  const spec::AdapterSettings& settings, const AdapterWeights& weights);

/// Reads an adapter folder that PEFT or dsft wrote, for a model of this spec, as fp32 tensors. Strict: missing,
/// unexpected and misshapen tensors are all listed.
Adapter load_adapter(const std::filesystem::path& directory, const spec::ModelSpec& spec);

}  // namespace dsft::checkpoint

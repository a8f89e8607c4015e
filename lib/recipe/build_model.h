#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "checkpoint/adapter.h"
#include "lora/lora_config.h"
#include "model/causal_lm.h"
#include "spec/adapter_settings.h"
#include "spec/model_config.h"
#include "text/tokenizer.h"

namespace dsft::recipe {

/// A checkpoint in memory, with its tokenizer.
struct LoadedModel {
  std::shared_ptr<model::CausalLm> model;
  text::Tokenizer tokenizer;
  std::filesystem::path directory;
};

/// The torch type of a recipe's dtype; none: bf16 on CUDA, fp32 on the CPU.
at::ScalarType torch_dtype(std::optional<spec::ComputeDtype> dtype, at::Device device);

/// Finds a model (directory or hub id), checks vocabulary against tokenizer, loads its weights. Throws kCheckpoint.
LoadedModel load_base_model(const std::string& path, const std::string& revision, at::ScalarType dtype,
                            at::Device device);

/// The same for use, not training: with the adapter of a directory in its slots where one is given.
LoadedModel load_model(const std::string& path, const std::string& revision, const std::optional<std::string>& adapter,
                       at::ScalarType dtype, at::Device device);

/// Puts LoRA slots into a model as a recipe says: new ones from (seed, module), or, with lora.adapter, those of that
/// adapter with its own settings. Gives the settings in force, to be saved with the adapter.
spec::AdapterSettings attach_lora(model::CausalLm& model, const lora::LoraConfig& config, const std::string& base_model,
                                  uint64_t seed);

/// The adapter in a model's slots, and what modules_to_save and bias trained, as PEFT's files hold them.
checkpoint::AdapterWeights collect_adapter(const model::CausalLm& model, const spec::AdapterSettings& settings);
/// Copies an adapter's tensors into the slots (and trained weights) of a model that has them.
void fill_adapter(model::CausalLm& model, const checkpoint::AdapterWeights& weights);

}  // namespace dsft::recipe

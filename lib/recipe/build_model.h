#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/logger.h"
#include "checkpoint/adapter.h"
#include "lora/lora_config.h"
#include "model/causal_lm.h"
#include "spec/adapter_settings.h"
#include "spec/model_config.h"
#include "spec/text_folders.h"
#include "zero/parameter_shards.h"

namespace dsft::recipe {

/// A checkpoint in memory.
struct LoadedModel {
  std::shared_ptr<model::CausalLm> model;
  spec::TextFolders folders;
};

/// The torch type of a recipe's dtype; none: bf16 on CUDA, fp32 on the CPU.
at::ScalarType torch_dtype(std::optional<spec::ComputeDtype> dtype, at::Device device);

/// Where a model is and where its weights go.
struct ModelRequest {
  std::string path;                         ///< directory or hub id
  std::string revision = {};                ///< of a hub id
  std::optional<std::string> adapter = {};  ///< directory of one that is used with it
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  model::ParameterMemory memory = model::ParameterMemory::kNow;  ///< later: load_slices() follows
};

/// Finds a model, checks its vocabulary against the tokenizer (the adapter's where it has one), loads its weights, and
/// warns of what its config.json asks for in vain. The adapter itself is not loaded. Throws kCheckpoint. What training
/// on batches like `batch` takes time to make is made while the weights are read; null: nothing is.
LoadedModel load_base_model(const ModelRequest& request, const Logger& logger, const Batch* batch = nullptr);

/// Fills what this rank has of the parameters of a model that load_base_model made without memory, and that has been
/// sharded since. Reads no more of the files than that. `batch`: as for load_base_model.
void load_slices(const LoadedModel& loaded, const zero::ParameterShards& shards, const Batch* batch = nullptr);

/// The same for use, not training: with the adapter in its slots.
LoadedModel load_model(const ModelRequest& request, const Logger& logger);

/// Puts LoRA slots into a model as a recipe says: new ones from (seed, module), or, with lora.adapter, those of that
/// adapter with its own settings. Gives the settings in force, to be saved with the adapter.
spec::AdapterSettings attach_lora(model::CausalLm& model, const lora::LoraConfig& config, const std::string& base_model,
                                  uint64_t seed);

/// The adapter in a model's slots, and what modules_to_save and bias trained, as PEFT's files hold them.
checkpoint::AdapterWeights collect_adapter(const model::CausalLm& model, const spec::AdapterSettings& settings);
/// Copies an adapter's tensors into the slots (and trained weights, of those in `shards` this rank's slices) of a model
/// that has them. Weights without memory are left out.
void fill_adapter(model::CausalLm& model, const checkpoint::AdapterWeights& weights,
                  const zero::ParameterShards* shards = nullptr);

}  // namespace dsft::recipe

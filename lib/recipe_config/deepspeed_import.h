#pragma once

#include "config/node.h"
#include "recipe_config/imported_values.h"
#include "recipe_config/run_settings.h"

namespace dsft::recipe_config {

/// Reads a DeepSpeed configuration (0.19.8) into the recipe's tree, as the integration of transformers reads it: "auto"
/// and missing keys come from the recipe; what DeepSpeed knows and dsft does not need is a warning, as is what
/// DeepSpeed ignores; what DeepSpeed refuses and what cannot be had is a fault.
void import_deepspeed(const config::Node& file, ImportedValues& values, RunSettings& run);

// Its parts.
void import_zero(ImportedBlock& top, RunSettings& run);
void import_precision(ImportedBlock& top);
void import_optimizer(ImportedBlock& top);
void import_scheduler(ImportedBlock& top);
/// Where an offload goes: an entry of `block`, into this key of the recipe.
void import_offload_device(ImportedBlock& block, const config::Entry& device, const std::string& recipe_path);

}  // namespace dsft::recipe_config

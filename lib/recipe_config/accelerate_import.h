#pragma once

#include <vector>

#include "config/node.h"
#include "recipe_config/imported_values.h"
#include "recipe_config/run_settings.h"

namespace dsft::recipe_config {

/// Reads a file of `accelerate config` (1.15) into the recipe's tree: precision, device, number of processes, and its
/// DeepSpeed settings, which stand there or in a JSON file that it names. Other ways to share a model are refused.
void import_accelerate(const config::Node& file, ImportedValues& values, RunSettings& run,
                       std::vector<config::Fault>& faults);

}  // namespace dsft::recipe_config

#pragma once

#include <c10/core/Device.h>

#include <filesystem>
#include <string>

#include "comm/placement.h"
#include "estimate/advice.h"
#include "recipe_config/recipe_config.h"

namespace dsft::recipe {

/// What a resolved recipe trains on this device, for estimates. Throws as find_model and read_model_spec do.
estimate::Workload workload_on(at::Device device, const recipe_config::RecipeConfig& config);

/// Memory that this rank could have, in bytes: of its GPU, or its share of the host's.
int64_t memory_of_rank(at::Device device, const comm::Placement& placement);

/// The run of a rank that had too little memory: what it was to take, and what was measured until then.
/// `free_host_bytes`: of this host before any rank of the job took some. Throws as workload_on does.
estimate::ShortOfMemory short_of_memory(const recipe_config::RecipeConfig& config, at::Device device,
                                        const comm::Placement& placement, int64_t free_host_bytes);

/// What is known of the run before it begins (findings). Throws as workload_on does.
estimate::MeasuredRun run_to_measure(const recipe_config::RecipeConfig& config, at::Device device,
                                     const comm::Placement& placement);

/// The file in output_dir with the explanation of a lack of memory. Ranks that run short together, as equal ranks do,
/// leave the explanation to whoever makes the file.
std::filesystem::path memory_advice_file(const std::filesystem::path& output_dir);

/// Makes the file with this text, and output_dir where it is not there yet. False where another rank has made it; true
/// where it cannot be made at all.
bool is_first_to_explain(const std::filesystem::path& output_dir, const std::string& text);

}  // namespace dsft::recipe

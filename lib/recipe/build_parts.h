#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "recipe_config/recipe_config.h"
#include "train/job.h"
#include "train/observers.h"
#include "train/run_context.h"

/// Parts that recipes share; each takes the recipe and gives one member of a Job.
namespace dsft::recipe {

/// How what `offload` places on the host lies there; none: it does not.
std::optional<zero::HostShare> host_share(const zero::OffloadConfig& offload, const train::RunContext& context);

/// `schedule` may move AdamW's betas.
std::unique_ptr<zero::ShardedOptimizer> build_optimizer(const recipe_config::RecipeConfig& config,
                                                        const optim::Schedule& schedule, const model::CausalLm& model,
                                                        train::RunContext& context);

/// The schedule of `max_steps` updates; prints the rate at the first, last warm-up, middle and last step.
optim::Schedule build_schedule(const recipe_config::RecipeConfig& config, int64_t max_steps, const Logger& logger);

/// resolved.yaml, metrics.jsonl, progress, TensorBoard; empty but on rank 0.
std::vector<std::unique_ptr<train::Observer>> build_observers(const recipe_config::RecipeConfig& config,
                                                              const train::RunContext& context,
                                                              const train::ShownMetrics& shown = {});

/// What the order and the content of the training items depend on, by name (train::Job::data_fingerprint).
std::map<std::string, std::string> fingerprint_data(const data::DataConfig& config, const data::Dataset& train);

/// Prepares the recipe's data: rank 0 tokenises, the others open the cache. Collective.
data::PreparedData prepare_recipe_data(const recipe_config::RecipeConfig& config, const spec::TextFolders& folders,
                                       train::RunContext& context);

}  // namespace dsft::recipe

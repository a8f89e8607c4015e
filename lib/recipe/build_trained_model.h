#pragma once

#include "batch/batch.h"
#include "recipe_config/recipe_config.h"
#include "train/job.h"
#include "train/run_context.h"

namespace dsft::recipe {

/// Fills in what a job trains, of a job that has its schedule: the model with a new or a given adapter, the optimizer,
/// what ranks share of both by zero.stage (shards, hooks), and how the trained weights are written and read back.
/// What training on batches like `prepares_for` takes time to make is made while the weights are read; null: nothing
/// is. Throws kCheckpoint, and kDevice where there is no room. Collective.
void build_trained_model(train::Job& job, const recipe_config::RecipeConfig& config, train::RunContext& context,
                         const Batch* prepares_for = nullptr);

}  // namespace dsft::recipe

#pragma once

#include <memory>
#include <vector>

#include "data/dataset.h"
#include "recipe_config/recipe_config.h"
#include "spec/text_folders.h"
#include "train/evaluation.h"
#include "train/run_context.h"

namespace dsft::recipe {

/// The evaluations of eval.metrics on the recipe's evaluation data; the trainer and `dsft eval` run the same list.
/// Throws kUsage where the recipe has no evaluation rows.
std::vector<std::unique_ptr<train::Evaluation>> build_evaluations(const recipe_config::RecipeConfig& config,
                                                                  const spec::TextFolders& folders,
                                                                  const data::PreparedData& data,
                                                                  const train::RunContext& context);

}  // namespace dsft::recipe

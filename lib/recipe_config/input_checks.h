#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/logger.h"
#include "data/dataset.h"
#include "recipe_config/recipe_config.h"
#include "spec/parameter_counts.h"

namespace dsft::recipe_config {

/// Something wrong with what a recipe names, and the exit code that it stands for.
struct InputFault {
  ErrorKind kind = ErrorKind::kUsage;
  config::Fault fault;
};

/// What is known of a run before it computes. Absent where faults stand in the way.
struct InputReport {
  std::vector<InputFault> faults;
  std::filesystem::path model_directory;
  std::vector<config::Fault> warnings;  ///< what is accepted and without effect in the files that the recipe names
  spec::ParameterCounts parameters;
  int64_t num_adapted_modules = 0;
  int64_t hidden_size = 0;                 ///< 0: the model could not be read
  std::optional<data::PreparedData> data;  ///< not of a grpo recipe
  std::optional<int64_t> num_prompts;      ///< of a grpo recipe: rows of an epoch
  int64_t num_eval_prompts = 0;            ///< of a grpo recipe
  int64_t longest_prompt = 0;              ///< of a grpo recipe, in tokens; 0: not known
};

/// Looks at everything that a resolved recipe names, without LibTorch: output folder, model directory, config.json
/// against the weight files, tokenizer and vocabulary, LoRA targets, an adapter to continue from, template, and every
/// data row (which fills the token cache; of a grpo recipe that it has a prompt and the columns that rewards compare
/// with). What
/// does not need another thing is looked at even where that is at fault. Each problem becomes a fault at the key that
/// named the thing.
InputReport check_inputs(const RecipeConfig& config, const config::Written& written, const Logger& logger);

/// Why a recipe that evaluates has nothing to evaluate on, and what to write.
std::string no_evaluation_rows(const RecipeConfig& config);

/// Updates of the whole run on this many ranks: from the items of an epoch, batch size, accumulation, epochs or
/// max_steps.
int64_t count_steps(const RecipeConfig& config, const data::Dataset& train, int64_t num_ranks);

}  // namespace dsft::recipe_config

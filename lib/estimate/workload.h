#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lora/lora_config.h"
#include "recipe_config/recipe_config.h"
#include "spec/model_config.h"
#include "spec/model_spec.h"
#include "train/training_config.h"

namespace dsft::estimate {

/// Of a recipe without its data: tokens of a prompt.
inline constexpr int64_t kAssumedPrompt = 512;

/// Rows that are sampled, in GRPO: prompts, which nothing cuts, with completions.
struct SampledRows {
  int64_t prompt_length = kAssumedPrompt;  ///< tokens of the longest prompt
  bool is_assumed = true;                  ///< no prompt was read
  int64_t num_sequences = 0;               ///< that a rank decodes together, at most
  int64_t num_evaluated = 0;               ///< the same in evaluations of the run; 0: it has none
};

/// What is trained, by which micro-batch, on what.
struct Workload {
  spec::ModelSpec model;
  std::optional<lora::LoraConfig> lora;  ///< none: all weights
  spec::ComputeDtype dtype = spec::ComputeDtype::kBf16;
  bool is_on_gpu = true;
  int64_t num_documents = 1;                ///< rows or bins of a micro-batch
  int64_t length = 2048;                    ///< tokens of each
  std::optional<SampledRows> sampled = {};  ///< none: rows are read, and data.max_length cuts them
  train::GradientCheckpointing recompute = train::GradientCheckpointing::kFalse;
  bool generates = false;        ///< evaluations generate texts while it trains
  bool accumulates = false;      ///< an update has several micro-batches
  bool keeps_reference = false;  ///< a frozen copy of all that is trained (RecipeConfig::keeps_reference)

  int64_t num_tokens() const { return num_documents * length; }
};

/// The largest micro-batch of a resolved recipe on this model. `longest_prompt`: of a grpo recipe whose prompts are
/// known, in tokens.
Workload workload_of(const recipe_config::RecipeConfig& recipe, const spec::ModelSpec& model,
                     std::optional<int64_t> longest_prompt = {});

/// "8 x 2048 tokens", of sampled rows with what they are made of.
std::string describe_rows(const Workload& workload);

int64_t bytes_of(spec::ComputeDtype dtype);
inline constexpr int64_t kFloatBytes = 4;

/// How the ranks of one host share and place what they hold.
struct Placement {
  int64_t stage = 0;
  bool offloads_optimizer = false;   ///< optimizer's state and gradients in host memory, from stage 1 on; not LoRA's
  bool offloads_parameters = false;  ///< slices of the parameters in host memory, at stage 3
  int64_t num_gpus = 1;              ///< ranks, all of one host
  bool gathers_ahead = true;         ///< the block behind the one that computes, at stage 3: overlap_comm

  bool operator==(const Placement&) const = default;
};

/// Every stage with every offload that it has, from the one that talks and copies least to the one that does so most.
std::vector<Placement> all_placements(int64_t num_gpus);

Placement placement_of(const recipe_config::RecipeConfig& recipe, int64_t num_gpus);

/// "stage 3, offload_optimizer, offload_param".
std::string describe(const Placement& placement);

}  // namespace dsft::estimate

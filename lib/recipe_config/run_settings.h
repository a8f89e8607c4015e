#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "config/fault.h"

namespace dsft::recipe_config {

struct RecipeConfig;

/// DeepSpeed's train_batch_size: rows of an update over all ranks.
struct TrainBatchSize {
  int64_t num_rows = 0;
  config::Position position;
  bool has_micro_batch = false;   ///< training.per_device_train_batch_size is written
  bool has_accumulation = false;  ///< training.gradient_accumulation_steps is written
};

/// How many ranks an Accelerate file means: num_processes, of all hosts together.
struct NumProcesses {
  int64_t number = 1;
  config::Position position;
};

/// The GPUs of this machine that an Accelerate file names: gpu_ids.
struct GpuIds {
  std::vector<int> numbers;
  config::Position position;
};

/// What DeepSpeed and Accelerate files say and only a run can resolve; no keys of the recipe.
struct RunSettings {
  std::optional<TrainBatchSize> train_batch_size;
  /// Sizes of `zero` that are "auto": they follow from the model's hidden size.
  bool has_auto_reduce_bucket_size = false;
  bool has_auto_prefetch_bucket_size = false;
  bool has_auto_persistence_threshold = false;
  std::optional<NumProcesses> num_processes;
  std::optional<GpuIds> gpu_ids;  ///< none: all of them
};

/// Adds a fault where no number of ranks makes micro-batch x accumulation x ranks the written train_batch_size.
void check_train_batch(const RecipeConfig& config, std::vector<config::Fault>& faults);

/// The ranks that the files mean: those that make a train_batch_size of which both factors are written, else an
/// Accelerate file's num_processes, else 1.
int64_t expected_ranks(const RecipeConfig& config);

/// Whether they mean a certain number.
bool has_expected_ranks(const RecipeConfig& config);

/// The ranks that `dsft launch` starts on a host with so many GPUs where no option says how many: expected_ranks where
/// the files mean a number, else one for each GPU, or 1 without any and with device: cpu.
int64_t ranks_on_host(const RecipeConfig& config, int64_t num_gpus);

/// Fills the micro-batch or the accumulation, whichever is not written, so that an update of this many ranks has
/// train_batch_size rows, as DeepSpeed does. The fault where that is not possible. Idempotent.
std::optional<config::Fault> fill_train_batch(RecipeConfig& config, int64_t num_ranks);
/// The same; throws kUsage for a fault.
void resolve_train_batch(RecipeConfig& config, int64_t num_ranks);

/// Fills the "auto" sizes of `zero` as transformers/integrations/deepspeed.py does. Idempotent.
void resolve_auto_sizes(RecipeConfig& config, int64_t hidden_size);

/// Puts these sizes back to their defaults, for a recipe that runs again: nothing reads them, and as written keys they
/// would be warned of, though nobody wrote a number.
void forget_auto_sizes(RecipeConfig& config);

}  // namespace dsft::recipe_config

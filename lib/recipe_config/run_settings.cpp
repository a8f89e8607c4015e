#include "recipe_config/run_settings.h"

#include <algorithm>

#include "base/error.h"
#include "recipe_config/recipe_config.h"

namespace dsft::recipe_config {
namespace {

constexpr const char* kKey = "train_batch_size";

/// What is written of an update's rows: their product per rank.
int64_t written_rows_per_rank(const RecipeConfig& config) {
  const TrainBatchSize& batch = *config.run.train_batch_size;
  return (batch.has_micro_batch ? config.training.per_device_train_batch_size : 1) *
         (batch.has_accumulation ? config.training.gradient_accumulation_steps : 1);
}

std::string describe_written(const RecipeConfig& config) {
  const TrainBatchSize& batch = *config.run.train_batch_size;
  std::string text;
  if (batch.has_micro_batch) text = concat("per_device_train_batch_size ", config.training.per_device_train_batch_size);
  if (batch.has_accumulation) {
    text +=
        concat(text.empty() ? "" : " x ", "gradient_accumulation_steps ", config.training.gradient_accumulation_steps);
  }
  return text;
}

}  // namespace

void check_train_batch(const RecipeConfig& config, std::vector<config::Fault>& faults) {
  if (!config.run.train_batch_size) return;
  const TrainBatchSize& batch = *config.run.train_batch_size;
  if (batch.num_rows % written_rows_per_rank(config) == 0) return;
  faults.push_back({batch.position, kKey,
                    concat(batch.num_rows, " rows of an update are no multiple of ", describe_written(config),
                           "; they must be micro-batch x accumulation x ranks")});
}

bool has_expected_ranks(const RecipeConfig& config) {
  const auto& batch = config.run.train_batch_size;
  return config.run.num_processes || (batch && batch->has_micro_batch && batch->has_accumulation);
}

int64_t expected_ranks(const RecipeConfig& config) {
  const auto& batch = config.run.train_batch_size;
  if (batch && batch->has_micro_batch && batch->has_accumulation)
    return batch->num_rows / written_rows_per_rank(config);
  return config.run.num_processes ? config.run.num_processes->number : 1;
}

int64_t ranks_on_host(const RecipeConfig& config, int64_t num_gpus) {
  if (has_expected_ranks(config)) return expected_ranks(config);
  return config.device == device::DeviceChoice::kCpu ? 1 : std::max<int64_t>(1, num_gpus);
}

std::optional<config::Fault> fill_train_batch(RecipeConfig& config, int64_t num_ranks) {
  if (!config.run.train_batch_size) return std::nullopt;
  const TrainBatchSize batch = *config.run.train_batch_size;
  const int64_t rows_per_pass = written_rows_per_rank(config) * num_ranks;
  const int64_t factor = batch.num_rows / rows_per_pass;
  const bool is_all_written = batch.has_micro_batch && batch.has_accumulation;
  if (factor * rows_per_pass != batch.num_rows || factor < 1 || (is_all_written && factor != 1)) {
    const std::string written = describe_written(config);
    return config::Fault{
        batch.position, kKey,
        concat(batch.num_rows, " rows of an update are not ", written, written.empty() ? "" : " x ", num_ranks,
               num_ranks == 1 ? " rank" : " ranks", is_all_written ? concat(" = ", rows_per_pass) : " x a whole number",
               "; change one of them, or write \"auto\"")};
  }
  config.run.train_batch_size.reset();
  if (!batch.has_micro_batch) {
    config.training.per_device_train_batch_size = factor;
  } else if (!batch.has_accumulation) {
    config.training.gradient_accumulation_steps = factor;
  }
  return std::nullopt;
}

void resolve_train_batch(RecipeConfig& config, int64_t num_ranks) {
  if (const auto fault = fill_train_batch(config, num_ranks)) config::throw_faults({*fault});
}

void resolve_auto_sizes(RecipeConfig& config, int64_t hidden_size) {
  const RunSettings& run = config.run;
  if (run.has_auto_reduce_bucket_size) config.zero.reduce_bucket_size = hidden_size * hidden_size;
  // at other stages transformers leaves them to DeepSpeed's defaults
  if (config.zero.stage != 3) return;
  if (run.has_auto_prefetch_bucket_size) {
    config.zero.stage3_prefetch_bucket_size =
        static_cast<int64_t>(0.9 * static_cast<double>(hidden_size) * static_cast<double>(hidden_size));
  }
  if (run.has_auto_persistence_threshold) config.zero.stage3_param_persistence_threshold = 10 * hidden_size;
}

void forget_auto_sizes(RecipeConfig& config) {
  const RunSettings& run = config.run;
  const zero::ZeroConfig defaults;
  if (run.has_auto_reduce_bucket_size) config.zero.reduce_bucket_size = defaults.reduce_bucket_size;
  if (run.has_auto_prefetch_bucket_size) config.zero.stage3_prefetch_bucket_size = defaults.stage3_prefetch_bucket_size;
  if (run.has_auto_persistence_threshold)
    config.zero.stage3_param_persistence_threshold = defaults.stage3_param_persistence_threshold;
}

}  // namespace dsft::recipe_config

#include "recipe/sft.h"

#include <cmath>

#include "batch/packed_text_source.h"
#include "batch/padded_batch.h"
#include "device/device.h"
#include "recipe/build_evaluations.h"
#include "recipe/build_parts.h"
#include "recipe/build_trained_model.h"
#include "recipe_config/input_checks.h"
#include "train/graphed_passes.h"

namespace dsft::recipe {
namespace {

// Whole and begun epochs that a run can need: with max_steps each epoch has at least one update.
int64_t num_epochs(const train::TrainingConfig& training) {
  return training.max_steps > 0 ? training.max_steps : static_cast<int64_t>(std::ceil(training.num_train_epochs));
}

// A micro-batch such as the first update has, in the shape in which it is computed. None on a CPU, where there is
// nothing to prepare.
std::optional<Batch> batch_to_prepare_for(const train::TrainingConfig& training, StepSource& source,
                                          at::Device device) {
  if (!device::is_asynchronous(device)) return std::nullopt;
  const Batch batch = source.largest_micro_batch();
  const bool is_recorded = training.cuda_graphs != train::CudaGraphs::kFalse && !training.full_determinism &&
                           batch.supervised.numel() > 0 &&
                           padded_shape(batch).tokens <= train::GraphLimits().max_tokens;
  return is_recorded ? pad_batch(batch, padded_shape(batch)) : batch;
}

// What the updates are made of, and how many there are.
void set_source(train::Job& job, const recipe_config::RecipeConfig& config, const data::PreparedData& data,
                const train::RunContext& context) {
  const StepShape shape{config.training.per_device_train_batch_size, config.training.gradient_accumulation_steps,
                        context.communicator.rank(), context.communicator.size(), num_epochs(config.training)};
  job.source = std::make_unique<PackedTextSource>(
      data.train, data::make_plan_options(config.data, *data.train, context.seed), shape, context.device);
  job.max_steps = recipe_config::count_steps(config, *data.train, context.communicator.size());
  job.data_fingerprint = fingerprint_data(config.data, *data.train);
  context.logger.info("plan: ", job.max_steps, " updates, ", job.source->steps_per_epoch(), " per epoch, ",
                      shape.items_per_micro_batch, " x ", shape.micro_batches, " x ", shape.num_ranks,
                      config.data.packing ? " bins" : " rows", " (micro-batch x accumulation x ranks) each");
}

}  // namespace

train::Job build_sft_job(const recipe_config::RecipeConfig& config, train::RunContext& context) {
  const spec::TextFolders folders =
      spec::find_text_folders(spec::find_model(config.model.path, config.model.revision), config.adapter());
  context.enter("reading rows");
  const data::PreparedData data = prepare_recipe_data(config, folders, context);

  train::Job job;
  set_source(job, config, data, context);
  // what can be at fault comes before the weights, which take their time
  job.schedule = build_schedule(config, job.max_steps, context.logger);
  if (config.training.eval_strategy != train::EvalStrategy::kNo || config.training.eval_on_start)
    job.evaluations = build_evaluations(config, folders, data, context);
  job.observers = build_observers(config, context);
  job.loss = std::make_unique<loss::CausalLmLoss>();
  const std::optional<Batch> batch = batch_to_prepare_for(config.training, *job.source, context.device);
  build_trained_model(job, config, context, batch ? &*batch : nullptr);
  return job;
}

}  // namespace dsft::recipe

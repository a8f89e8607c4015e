#include "recipe/sft.h"

#include <cmath>

#include "batch/packed_text_source.h"
#include "batch/padded_batch.h"
#include "device/device.h"
#include "recipe/build_evaluations.h"
#include "recipe/build_parts.h"
#include "recipe_config/input_checks.h"
#include "train/graphed_passes.h"
#include "train/sharding_hooks.h"

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

}  // namespace

train::Job build_sft_job(const recipe_config::RecipeConfig& config, train::RunContext& context) {
  const spec::TextFolders folders =
      spec::find_text_folders(spec::find_model(config.model.path, config.model.revision), config.adapter());
  context.enter("reading rows");
  const data::PreparedData data = prepare_recipe_data(config, folders, context);

  train::Job job;
  const StepShape shape{config.training.per_device_train_batch_size, config.training.gradient_accumulation_steps,
                        context.communicator.rank(), context.communicator.size(), num_epochs(config.training)};
  auto source = std::make_unique<PackedTextSource>(
      data.train, data::make_plan_options(config.data, *data.train, context.seed), shape, context.device);
  job.max_steps = recipe_config::count_steps(config, *data.train, context.communicator.size());
  job.source = std::move(source);
  job.data_fingerprint = fingerprint_data(config.data, *data.train);
  context.logger.info("plan: ", job.max_steps, " updates, ", job.source->steps_per_epoch(), " per epoch, ",
                      shape.items_per_micro_batch, " x ", shape.micro_batches, " x ", shape.num_ranks,
                      config.data.packing ? " bins" : " rows", " (micro-batch x accumulation x ranks) each");

  // what can be at fault comes before the weights, which take their time
  job.schedule = build_schedule(config, job.max_steps, context.logger);
  if (config.training.eval_strategy != train::EvalStrategy::kNo || config.training.eval_on_start)
    job.evaluations = build_evaluations(config, folders, data, context);
  job.observers = build_observers(config, context);

  context.enter("loading weights");
  const std::optional<Batch> batch = batch_to_prepare_for(config.training, *job.source, context.device);
  // where ranks share the parameters, or one has its only slices on the host, no device ever has all of them
  const std::optional<zero::HostShare> on_host = host_share(config.zero.offload_param, context);
  const bool is_sharded = zero::slices_parameters(config.zero.stage, context.communicator.size(), on_host.has_value());
  const LoadedModel loaded =
      load_base_model({.path = config.model.path,
                       .revision = config.model.revision,
                       .adapter = config.adapter(),
                       .dtype = torch_dtype(config.model.dtype, context.device),
                       .device = context.device,
                       .memory = is_sharded ? model::ParameterMemory::kLater : model::ParameterMemory::kNow},
                      context.logger, batch ? &*batch : nullptr);
  const auto adapter = choose_trainable(config, loaded, context);
  job.model = loaded.model;
  job.loss = std::make_unique<loss::CausalLmLoss>();
  job.optimizer = build_optimizer(config, job.schedule, *job.model, context);
  if (is_sharded) {
    job.shards = train::shard_parameters(*job.model, *job.optimizer, context.of_device(), on_host);
    load_slices(loaded, *job.shards, batch ? &*batch : nullptr);
    if (config.adapter())
      fill_adapter(*job.model, checkpoint::load_adapter(*config.adapter(), job.model->spec()).weights,
                   job.shards.get());
    job.optimizer->take_values();
  }
  job.hooks = std::make_unique<train::ShardingHooks>(
      *job.model, *job.optimizer, job.shards.get(),
      config.zero.overlap_comm ? train::GatherTime::kBlockAhead : train::GatherTime::kOnUse);
  set_weight_files(job, config, loaded, adapter, context);
  return job;
}

}  // namespace dsft::recipe

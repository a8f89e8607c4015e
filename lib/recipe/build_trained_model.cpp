#include "recipe/build_trained_model.h"

#include <iomanip>
#include <sstream>

#include "checkpoint/load_weights.h"
#include "checkpoint/save_model.h"
#include "checkpoint/sharded_model.h"
#include "io/file.h"
#include "lora/adapters.h"
#include "recipe/build_model.h"
#include "recipe/build_parts.h"
#include "recipe/same_adapter.h"
#include "spec/parameter_counts.h"
#include "train/sharding_hooks.h"

namespace dsft::recipe {

namespace fs = std::filesystem;
using recipe_config::RecipeConfig;

namespace {

constexpr uint64_t kMaxTemplateBytes = 1 << 20;
constexpr const char* kAdapterConfig = "adapter_config.json";

std::optional<std::string> own_template(const RecipeConfig& config) {
  if (!config.data.chat_template) return std::nullopt;
  return io::read_text_file(*config.data.chat_template, kMaxTemplateBytes);
}

// Makes A and B (or all weights) trainable and says how many. Gives the adapter's settings with LoRA.
std::optional<spec::AdapterSettings> choose_trainable(const RecipeConfig& config, const LoadedModel& loaded,
                                                      const train::RunContext& context) {
  std::optional<spec::AdapterSettings> adapter;
  if (config.lora) {
    adapter = attach_lora(*loaded.model, *config.lora, config.model.path, context.seed);
    if (!config.model.revision.empty()) adapter->revision = config.model.revision;
    for (const std::string& warning : adapter->warnings) context.logger.warn(warning);
  } else {
    for (at::Tensor& parameter : loaded.model->parameters()) parameter.requires_grad_(true);
  }
  int64_t num_trainable = 0;
  for (const auto& trainable : lora::trainable_tensors(*loaded.model)) num_trainable += trainable.tensor.numel();
  const spec::ParameterCounts counts = spec::count_parameters(loaded.model->spec(), adapter ? &adapter->lora : nullptr);
  DSFT_CHECK(num_trainable == counts.trainable, num_trainable, " trainable parameters, not ", counts.trainable);
  std::ostringstream share;
  share << std::fixed << std::setprecision(2)
        << 100.0 * static_cast<double>(num_trainable) / static_cast<double>(counts.total);
  context.logger.info("trainable parameters: ", num_trainable, " of ", counts.total, " (", share.str(), " %)",
                      config.lora ? concat(", LoRA on ", lora::adapted_modules(*loaded.model).size(), " modules")
                                  : std::string(", all weights"));
  return adapter;
}

// Each rank gets its slices of all parameters, none ever all of them.
void share_parameters(train::Job& job, const RecipeConfig& config, const LoadedModel& loaded,
                      const std::optional<zero::HostShare>& on_host, const Batch* prepares_for,
                      train::RunContext& context) {
  job.shards = train::shard_parameters(*job.model, *job.optimizer, context.of_device(), on_host);
  load_slices(loaded, *job.shards, prepares_for);
  if (config.adapter())
    fill_adapter(*job.model, checkpoint::load_adapter(*config.adapter(), job.model->spec()).weights, job.shards.get());
  job.optimizer->take_values();
  if (context.device.is_cuda() && !on_host && context.communicator.size() > 1)
    context.logger.info("zero: parameters are gathered by ",
                        context.of_device().reads_slices_in_place()
                            ? "copies between the GPUs"
                            : "NCCL's all-gather, for the GPUs do not read one another's memory");
}

void set_adapter_files(train::Job& job, const LoadedModel& loaded, const spec::AdapterSettings& adapter,
                       const std::optional<std::string>& chat_template, comm::Communicator& communicator) {
  const auto model = loaded.model;
  const fs::path text = loaded.folders.text;
  const zero::ParameterShards* const shards = job.shards.get();
  for (const auto& trainable : lora::trainable_tensors(*model)) job.weights_size_bytes += trainable.tensor.nbytes();
  job.save_weights = [=, &communicator](const fs::path& directory) {
    checkpoint::WritingRanks ranks(communicator, shards);
    checkpoint::save_adapter(directory, model->spec(), adapter, collect_adapter(*model, adapter), ranks);
    // no config.json: transformers would take the folder for that of a whole model
    ranks.write([&] { checkpoint::copy_tokenizer_files(text, directory, chat_template); });
  };
  job.load_weights = [=](const fs::path& directory) {
    if (!fs::exists(directory / kAdapterConfig))
      fail(ErrorKind::kCheckpoint, directory.string(), " holds no adapter, and the recipe has a section lora: it was ",
           "saved by a run that trained all weights.");
    require_same_adapter(spec::read_adapter_settings(directory), adapter, model->spec(), directory);
    fill_adapter(*model, checkpoint::load_adapter(directory, model->spec()).weights, shards);
  };
}

void set_model_files(train::Job& job, const RecipeConfig& config, const LoadedModel& loaded,
                     const std::optional<std::string>& chat_template, comm::Communicator& communicator) {
  const auto model = loaded.model;
  const fs::path source = loaded.folders.model;
  const zero::ParameterShards* const shards = job.shards.get();
  const bool writes_shards = config.zero.stage == 3 && !config.zero.stage3_gather_16bit_weights_on_model_save;
  for (const at::Tensor& parameter : model->parameters()) job.weights_size_bytes += parameter.nbytes();
  job.save_weights = [=, &communicator](const fs::path& directory) {
    const auto parameters = model::named_parameters_of(*model);
    const checkpoint::SaveModelOptions options{
        .source = source, .dtype = model->dtype(), .chat_template = chat_template};
    if (writes_shards) {
      checkpoint::save_sharded_model(directory, checkpoint::own_slices(parameters, shards), options, communicator);
    } else {
      checkpoint::WritingRanks ranks(communicator, shards);
      checkpoint::save_model(directory, parameters, options, ranks);
    }
  };
  job.load_weights = [=](const fs::path& directory) {
    if (fs::exists(directory / kAdapterConfig))
      fail(ErrorKind::kCheckpoint, directory.string(), " holds an adapter, and the recipe has no section lora: it was ",
           "saved by a run with LoRA.");
    checkpoint::load_slices(model->spec(), checkpoint::StoredWeights::open(directory),
                            checkpoint::own_slices(model::named_parameters_of(*model), shards));
  };
}

}  // namespace

void build_trained_model(train::Job& job, const RecipeConfig& config, train::RunContext& context,
                         const Batch* prepares_for) {
  context.enter("loading weights");
  const std::optional<zero::HostShare> on_host = host_share(config.zero.offload_param, context);
  // where ranks share the parameters, or one has its only slices on the host, no device ever has all of them
  const bool has_slices = zero::slices_parameters(config.zero.stage, context.communicator.size(), on_host.has_value());
  const LoadedModel loaded =
      load_base_model({.path = config.model.path,
                       .revision = config.model.revision,
                       .adapter = config.adapter(),
                       .dtype = torch_dtype(config.model.dtype, context.device),
                       .device = context.device,
                       .memory = has_slices ? model::ParameterMemory::kLater : model::ParameterMemory::kNow},
                      context.logger, prepares_for);
  const auto adapter = choose_trainable(config, loaded, context);
  job.model = loaded.model;
  job.optimizer = build_optimizer(config, job.schedule, *job.model, context);
  if (has_slices) share_parameters(job, config, loaded, on_host, prepares_for, context);
  job.hooks = std::make_unique<train::ShardingHooks>(
      *job.model, *job.optimizer, job.shards.get(),
      config.zero.overlap_comm ? train::GatherTime::kBlockAhead : train::GatherTime::kOnUse);
  if (adapter)
    set_adapter_files(job, loaded, *adapter, own_template(config), context.communicator);
  else
    set_model_files(job, config, loaded, own_template(config), context.communicator);
  if (!job.shards) return;
  job.load_weights = [load = std::move(job.load_weights), shards = job.shards.get(),
                      &of_device = context.of_device()](const fs::path& directory) {
    shards->end_passes();
    of_device.barrier();  // no rank gathers slices that are about to be written
    load(directory);
  };
}

}  // namespace dsft::recipe

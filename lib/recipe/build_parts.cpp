#include "recipe/build_parts.h"

#include <sstream>

#include "comm/small_collectives.h"
#include "io/checksum.h"
#include "io/file.h"
#include "lora/adapters.h"
#include "report/progress_line.h"

namespace dsft::recipe {

namespace fs = std::filesystem;
using recipe_config::RecipeConfig;

namespace {

// transformers' get_decay_parameter_names: no decay on biases and weights of norms.
bool has_weight_decay(const std::string& name) {
  return !name.ends_with(".bias") && name.find("norm") == std::string::npos;
}

// fp64 [total_steps]
at::Tensor moved_beta1s(const optim::Schedule& schedule) {
  at::Tensor values = torch::empty({schedule.total_steps}, at::kDouble);
  for (int64_t step = 0; step < schedule.total_steps; ++step)
    values.data_ptr<double>()[step] = optim::beta1(schedule, step);
  return values;
}

// Of a rank's slices of what is not trained.
int64_t frozen_slice_bytes(const model::CausalLm& model, int num_ranks) {
  int64_t bytes = 0;
  for (const at::Tensor& parameter : model.parameters())
    if (!parameter.requires_grad()) bytes += static_cast<int64_t>(parameter.nbytes());
  return bytes / num_ranks;
}

}  // namespace

std::optional<zero::HostShare> host_share(const zero::OffloadConfig& offload, const train::RunContext& context) {
  if (offload.device == zero::OffloadDevice::kNone) return std::nullopt;
  const bool is_pinned = offload.pin_memory && device::is_asynchronous(context.device);
  return zero::HostShare{is_pinned ? device::HostPages::kPinned : device::HostPages::kPageable,
                         context.num_ranks_of_host};
}

std::unique_ptr<zero::ShardedOptimizer> build_optimizer(const RecipeConfig& config, const optim::Schedule& schedule,
                                                        const model::CausalLm& model, train::RunContext& context) {
  std::vector<zero::TrainableParameter> parameters;
  for (const auto& trainable : lora::trainable_tensors(model))
    parameters.push_back({trainable.name, trainable.tensor, has_weight_decay(trainable.name), trainable.is_adapter,
                          model.block_of(trainable.name)});
  zero::OptimizerOptions options;
  options.stage = config.zero.stage;
  options.overlaps_backward = config.zero.stage == 0 || config.zero.overlap_comm;
  options.adamw = {config.training.adam_beta1, config.training.adam_beta2, config.training.adam_epsilon,
                   config.training.weight_decay};
  if (optim::moves_betas(schedule)) {
    options.adamw.beta2 = optim::kMovedBeta2;
    options.beta1s = moved_beta1s(schedule).to(context.device);
  }
  options.max_grad_norm = config.training.max_grad_norm;
  if (model.dtype() == at::kHalf) options.loss_scaler = optim::to_options(config.training.loss_scaler);
  options.offloads_state = host_share(config.zero.offload_optimizer, context);
  if (options.stage == 3) options.offloads_parameters = host_share(config.zero.offload_param, context);
  if (options.offloads_parameters)
    options.frozen_bytes_on_host = frozen_slice_bytes(model, context.communicator.size());
  options.accumulates = config.training.gradient_accumulation_steps > 1 || config.training.auto_find_batch_size;
  auto optimizer = std::make_unique<zero::ShardedOptimizer>(std::move(parameters), options, context.of_device());
  const bool has_frozen_slices =
      zero::slices_parameters(options.stage, context.communicator.size(), options.offloads_parameters.has_value());
  if (options.stage > 0 && !optimizer->is_sharded() && !has_frozen_slices)
    context.logger.info("zero.stage: ", options.stage, " has nothing to share: ",
                        context.communicator.size() == 1 ? "there is one rank" : "adapters stay whole on every rank");
  if (options.offloads_state && !optimizer->is_sharded())
    context.logger.info("zero.offload_optimizer has nothing to offload: the state of adapters stays on the device");
  return optimizer;
}

optim::Schedule build_schedule(const RecipeConfig& config, int64_t max_steps, const Logger& logger) {
  const train::TrainingConfig& training = config.training;
  optim::Schedule schedule{training.lr_scheduler_type, training.lr_scheduler_kwargs, *training.learning_rate,
                           training.warmup_steps.value_or(0), max_steps};
  if (!training.warmup_steps)
    schedule.warmup_steps = optim::warmup_steps_of(training.warmup_ratio.value_or(0), max_steps);
  optim::check_schedule(schedule);
  optim::check_total_steps(schedule);
  std::ostringstream line;
  for (const auto& [name, step] : optim::notable_steps(schedule))
    line << "  " << name << " (" << step + 1 << ") " << optim::learning_rate(schedule, step);
  logger.info("learning rate at step:", line.str());
  return schedule;
}

// resolved.yaml, once the run has begun: one that could not go on leaves that of the run before.
class ResolvedRecipe final : public train::Observer {
 public:
  explicit ResolvedRecipe(RecipeConfig config) : path_(fs::path(config.output_dir) / "resolved.yaml") {
    recipe_config::forget_auto_sizes(config);
    text_ = recipe_config::to_yaml(config);
  }
  void on_start(const train::RunPlan&) override { io::replace_text_file(path_, text_); }

 private:
  fs::path path_;
  std::string text_;
};

std::vector<std::unique_ptr<train::Observer>> build_observers(const RecipeConfig& config,
                                                              const train::RunContext& context,
                                                              const train::ShownMetrics& shown) {
  std::vector<std::unique_ptr<train::Observer>> observers;
  if (context.communicator.rank() != 0) return observers;
  const auto warn = [&logger = context.logger](const std::string& text) { logger.warn(text); };
  observers.push_back(std::make_unique<ResolvedRecipe>(config));
  observers.push_back(std::make_unique<train::MetricsFile>(context.output_dir, warn));
  observers.push_back(std::make_unique<train::ProgressDisplay>(report::standard_error_terminal(), shown));
  for (const train::ReportTo report_to : config.training.report_to)
    if (report_to == train::ReportTo::kTensorboard)
      observers.push_back(std::make_unique<train::TensorboardCurves>(context.output_dir, warn));
  return observers;
}

std::map<std::string, std::string> fingerprint_data(const data::DataConfig& config, const data::Dataset& train) {
  std::string keys, weights;
  for (const data::CacheKey& key : train.contents()) keys += io::to_hex(key.first) + io::to_hex(key.second) + " ";
  for (const double weight : train.file_weights()) weights += concat(weight, " ");
  return {{"the tokens of data.train", keys},
          {"the weights of data.train", weights},
          {"data.max_length", concat(config.max_length)},
          {"data.packing", config.packing ? "true" : "false"},
          {"data.shuffle", config.shuffle ? "true" : "false"},
          {"data.eval_fraction", concat(config.eval_fraction)}};
}

data::PreparedData prepare_recipe_data(const RecipeConfig& config, const spec::TextFolders& folders,
                                       train::RunContext& context) {
  data::PrepareOptions options{.folders = folders, .cache_directory = {}, .seed = context.seed};
  options.date = comm::broadcast_bytes(context.communicator, options.date);
  std::optional<data::PreparedData> prepared;
  // A fault on rank 0 ends the job there; the others leave the barrier by its abort.
  if (context.communicator.rank() == 0) prepared = data::prepare_data(config.data, options, context.logger);
  context.communicator.barrier();
  if (!prepared) prepared = data::prepare_data(config.data, options, context.logger);
  return *std::move(prepared);
}

}  // namespace dsft::recipe

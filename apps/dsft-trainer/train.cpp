#include <torch/types.h>

#include <filesystem>

#include "comm/make_communicator.h"
#include "comm/placement.h"
#include "device/device.h"
#include "dsft-trainer/tasks.h"
#include "io/file.h"
#include "recipe/registry.h"
#include "train/trainer.h"

namespace dsft::apps {
namespace {

void write_resolved_recipe(const recipe_config::RecipeConfig& config) {
  std::error_code error;
  std::filesystem::create_directories(config.output_dir, error);
  if (error) fail(ErrorKind::kUsage, "output_dir ", config.output_dir, " cannot be made: ", error.message());
  io::replace_text_file(std::filesystem::path(config.output_dir) / "resolved.yaml", recipe_config::to_yaml(config));
}

int train(const recipe_config::RecipeConfig& config, at::Device device, comm::Communicator& communicator,
          const Logger& logger) {
  if (communicator.rank() == 0) write_resolved_recipe(config);
  communicator.barrier();
  const train::StopSignal stop_signal;
  train::RunContext context{communicator,      device, static_cast<uint64_t>(config.seed),
                            config.output_dir, logger, &stop_signal};
  train::Trainer trainer(recipe::build_job(config, context), config.training, context);
  const train::RunEnd end = trainer.run();
  if (end == train::RunEnd::kStoppedBySignal) return static_cast<int>(ErrorKind::kStopped);
  logger.info("done: ", config.output_dir);
  return 0;
}

}  // namespace

int run_train(const TrainOptions& options, const Logger& logger) {
  const comm::Placement placement = comm::read_placement();
  std::vector<std::string> warnings;
  const recipe_config::RecipeConfig config =
      recipe_config::load_run_recipe(options.recipe.recipe, options.recipe.overrides, device::has_cuda(), warnings);
  for (const std::string& warning : warnings) logger.warn(warning);
  const at::Device device = device::choose_device(config.device, placement.local_rank);
  if (config.training.full_determinism) at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  const auto communicator = comm::make_communicator(device);
  try {
    return train(config, device, *communicator, logger);
  } catch (Error& error) {
    if (communicator->size() > 1) {
      std::fprintf(stderr, "error (rank %d): %s\n", communicator->rank(), error.full_message().c_str());
      communicator->abort(error.exit_code(), error.message());
    }
    throw;
  } catch (const std::exception& error) {
    if (communicator->size() > 1) {
      std::fprintf(stderr, "error (rank %d): %s\n", communicator->rank(), error.what());
      communicator->abort(static_cast<int>(ErrorKind::kInternal), error.what());
    }
    throw;
  }
}

}  // namespace dsft::apps

#include <torch/types.h>

#include <stdlib.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "comm/make_communicator.h"
#include "comm/placement.h"
#include "comm/watched_communicator.h"
#include "device/cuda_device.h"
#include "device/device.h"
#include "dsft-trainer/failure.h"
#include "dsft-trainer/tasks.h"
#include "launch/own_cores.h"
#include "recipe/registry.h"
#include "train/trainer.h"
#include "watchdog/heart.h"

namespace dsft::apps {
namespace {

void make_output_dir(const std::string& output_dir) {
  std::error_code error;
  std::filesystem::create_directories(output_dir, error);
  if (error) fail(ErrorKind::kUsage, "output_dir ", output_dir, " cannot be made: ", error.message());
}

int train(const recipe_config::RecipeConfig& config, at::Device device, comm::Communicator& communicator,
          watchdog::Heart& heart, const Logger& logger) {
  const auto device_communicator =
      comm::watch(comm::make_device_communicator(device, communicator), heart, comm::WatchedRanks::kDevice);
  train::RunContext context{communicator, device, static_cast<uint64_t>(config.seed), config.output_dir, logger};
  context.device_communicator = device_communicator.get();
  context.heart = &heart;
  train::Job job = recipe::build_job(config, context);
  if (communicator.rank() == 0) make_output_dir(config.output_dir);
  communicator.barrier();
  // only now: while rows are tokenised and weights loaded there is nothing to save, and a signal ends the process
  train::StopSignal stop_signal;
  context.stop_signal = &stop_signal;
  train::Trainer trainer(std::move(job), config.training, context);
  const train::RunEnd end = trainer.run();
  stop_signal.ignore_from_now();
  if (end == train::RunEnd::kStoppedBySignal) return static_cast<int>(ErrorKind::kStopped);
  logger.info("done: ", config.output_dir);
  return 0;
}

// transformers' enable_full_determinism. cuBLAS reads its workspace when CUDA starts, so this comes before that.
void make_deterministic() {
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setBenchmarkCuDNN(false);
}

}  // namespace

int run_train(const TrainOptions& options, const Logger& logger) {
  const comm::Placement placement = comm::read_placement();
  launch::bind_to_own_cores(placement.local_rank, placement.local_size, std::getenv);  // threads to come inherit it
  watchdog::Heart heart(std::getenv(watchdog::kAddressVariable), placement.rank);
  std::vector<std::string> warnings;
  recipe_config::RecipeConfig config =
      recipe_config::load_run_recipe(options.recipe.recipe, options.recipe.overrides, device::has_cuda(), warnings);
  for (const std::string& warning : warnings) logger.warn(warning);
  recipe_config::resolve_train_batch(config, placement.size);
  if (config.training.full_determinism) make_deterministic();
  const at::Device device = device::choose_device(config.device, placement.gpu(device::cuda::device_count()));
  heart.enter(watchdog::PhaseKind::kStart, "joining the other ranks");
  const auto communicator = comm::watch(comm::make_communicator(), heart);
  try {
    return train(config, device, *communicator, heart, logger);
  } catch (...) {
    if (communicator->size() > 1) {
      const Failure failure = describe_current_exception();
      std::fprintf(stderr, "error (rank %d): %s\n", communicator->rank(), failure.message.c_str());
      communicator->abort(static_cast<int>(failure.kind), failure.message);
    }
    throw;
  }
}

}  // namespace dsft::apps

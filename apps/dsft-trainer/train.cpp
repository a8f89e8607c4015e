#include <torch/types.h>

#include <stdlib.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "comm/compared_communicator.h"
#include "comm/failing_order.h"
#include "comm/make_communicator.h"
#include "comm/placement.h"
#include "comm/timed_communicator.h"
#include "comm/watched_communicator.h"
#include "device/cuda_device.h"
#include "device/device.h"
#include "device/host_memory.h"
#include "dsft-trainer/failure.h"
#include "dsft-trainer/peer_watch.h"
#include "dsft-trainer/tasks.h"
#include "launch/own_cores.h"
#include "recipe/memory_advice.h"
#include "recipe/registry.h"
#include "recipe/run_adviser.h"
#include "recipe/same_recipe.h"
#include "train/trainer.h"
#include "watchdog/heart.h"

namespace dsft::apps {
namespace {

void make_output_dir(const std::string& output_dir) {
  std::error_code error;
  std::filesystem::create_directories(output_dir, error);
  if (error) fail(ErrorKind::kUsage, "output_dir ", output_dir, " cannot be made: ", error.message());
}

// With auto_find_batch_size the micro-batch is not the recipe's.
void add_adviser(train::Job& job, const recipe_config::RecipeConfig& config, const comm::Placement& placement,
                 const train::RunContext& context) {
  if (placement.rank != 0 || config.training.auto_find_batch_size) return;
  job.observers.push_back(std::make_unique<recipe::RunAdviser>(
      recipe::run_to_measure(config, context.device, placement), context.output_dir, context.logger));
}

/// This process among the others of its job.
struct OwnRank {
  const comm::Placement& placement;
  at::Device device;
  std::unique_ptr<PeerWatch> peer_watch = {};
  std::unique_ptr<watchdog::Heart> heart = {};
  comm::WaitTimes waits{device};                          ///< of collectives of the device
  std::shared_ptr<comm::CallComparison> comparison = {};  ///< where collectives are debugged
  std::unique_ptr<comm::Communicator> communicator = {};

  /// Collective.
  void join() {
    heart->enter(watchdog::PhaseKind::kStart, "joining the other ranks");
    communicator = comm::make_communicator();
    // of srun and torchrun, which do not see that a process stands still
    if (placement.rendezvous == comm::Rendezvous::kStore && placement.size > 1 && !heart->is_watched()) {
      peer_watch = std::make_unique<PeerWatch>(*communicator);
      heart = std::make_unique<watchdog::Heart>(peer_watch->address().c_str(), placement.rank);
    }
    communicator = comm::watch(std::move(communicator), *heart);
    // where no other serves the device's tensors
    if (device.is_cpu()) communicator = comm::time_waits(std::move(communicator), waits);
    comparison = comm::make_call_comparison(*communicator);
    communicator = comm::compare_calls(std::move(communicator), comparison);
  }
  std::unique_ptr<comm::Communicator> make_device_communicator() {
    auto of_device =
        comm::watch(comm::make_device_communicator(device, *communicator), *heart, comm::WatchedRanks::kDevice);
    return comm::compare_calls(comm::time_waits(std::move(of_device), waits), comparison, "NCCL ");
  }
};

int train(const recipe_config::RecipeConfig& config, OwnRank& rank, const Logger& logger) {
  comm::Communicator& communicator = *rank.communicator;
  const auto device_communicator = rank.make_device_communicator();
  train::RunContext context{communicator, rank.device, static_cast<uint64_t>(config.seed), config.output_dir, logger};
  context.device_communicator = device_communicator.get();
  context.num_ranks_of_host = rank.placement.local_size;
  context.heart = rank.heart.get();
  context.waits = &rank.waits;
  train::Job job = recipe::build_job(config, context);
  add_adviser(job, config, rank.placement, context);
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

// What an earlier run has left would silence this one, or be taken for its own. Every rank, for hosts may have folders
// of their own; all have done it when they have joined.
void forget_memory_advice(const std::string& output_dir) {
  std::error_code ignored;  // there may be none
  std::filesystem::remove(recipe::memory_advice_file(output_dir), ignored);
}

std::string_view memory_advice_for(const recipe_config::RecipeConfig& config) {
  if (config.recipe == recipe_config::RecipeKind::kGrpo) return kSamplingMemoryAdvice;
  const bool may_look_for_batch_size = config.zero.stage < 3 && !config.training.auto_find_batch_size;
  return may_look_for_batch_size ? kAutomaticMemoryAdvice : kTrainingMemoryAdvice;
}

/// The exception that is being handled. With a lack of memory come the estimate beside what was measured and what to
/// try, from one of the ranks.
Failure describe_failure(const recipe_config::RecipeConfig& config, at::Device device, const comm::Placement& placement,
                         int64_t free_host_bytes) {
  Failure failure = describe_current_exception(memory_advice_for(config));
  if (!failure.is_out_of_memory) return failure;
  try {
    const std::string text =
        estimate::explain_out_of_memory(recipe::short_of_memory(config, device, placement, free_host_bytes));
    if (recipe::is_first_to_explain(config.output_dir, text)) {
      failure.message += "\n" + text;
    } else {
      failure.message += concat("\nAnother rank has run out of memory too and says more, as does ",
                                recipe::memory_advice_file(config.output_dir).string());
      comm::let_another_rank_fail_first();
    }
  } catch (const std::exception&) {
    // where even this finds no memory, the failure itself is what to tell
  }
  return failure;
}

// transformers' enable_full_determinism. cuBLAS reads its workspace when CUDA starts, so this comes before that.
void make_deterministic() {
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);  // costs a pass over every new tensor
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setBenchmarkCuDNN(false);
}

}  // namespace

int run_train(const TrainOptions& options, const Logger& logger) {
  comm::Placement placement = comm::read_placement();
  launch::bind_to_own_cores(placement.local_rank, placement.local_size, std::getenv);  // threads to come inherit it
  auto heart = std::make_unique<watchdog::Heart>(std::getenv(watchdog::kAddressVariable), placement.rank);
  std::vector<std::string> warnings;
  recipe_config::RecipeConfig config =
      recipe_config::load_run_recipe(options.recipe.recipe, options.recipe.overrides, device::has_cuda(), warnings);
  for (const std::string& warning : warnings) logger.warn(warning);
  recipe_config::resolve_train_batch(config, placement.size);
  if (config.training.full_determinism) make_deterministic();
  OwnRank rank{.placement = placement,
               .device = device::choose_device(config.device, placement.gpu(device::cuda::device_count()))};
  rank.heart = std::move(heart);
  forget_memory_advice(config.output_dir);
  const int64_t free_host_bytes = device::free_host_memory().free_bytes;  // no rank takes much before all have joined
  rank.join();
  try {
    // srun says how many cores a rank has, not how many ranks share the host's memory
    placement.local_size = count_ranks_of_this_machine(*rank.communicator);
    recipe::require_same_recipe(config, *rank.communicator);
    return train(config, rank, logger);
  } catch (...) {
    const Failure failure = describe_failure(config, rank.device, placement, free_host_bytes);
    if (placement.size > 1) {
      std::fprintf(stderr, "error (rank %d): %s\n", placement.rank, failure.message.c_str());
      rank.communicator->abort(static_cast<int>(failure.kind), failure.message);
      return static_cast<int>(failure.kind);  // said; only MPI ends the process there
    }
    throw Error(failure.kind, failure.message);
  }
}

}  // namespace dsft::apps

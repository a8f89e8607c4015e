#include "train/fit_micro_batches.h"

#include "base/error.h"
#include "comm/small_collectives.h"
#include "device/device.h"

namespace dsft::train {

namespace {

bool fits(StepSource& source, TrainingStep& step, at::Device device) {
  try {
    step.rehearse(source.largest_micro_batch());
    return true;
  } catch (const std::exception& error) {
    if (!device::is_out_of_memory(error)) throw;
    device::clear_error(device);  // cuBLAS and cuDNN leave theirs behind
    return false;
  }
}

}  // namespace

void fit_micro_batches(StepSource& source, TrainingStep& step, at::Device device, comm::Communicator& communicator,
                       const std::function<void(const std::string&)>& tell) {
  const auto is_short_somewhere = [&] {
    const int64_t is_short = fits(source, step, device) ? 0 : 1;
    device::forget_memory_use(device);  // the run's peak is its own
    return comm::all_reduce_value(communicator, is_short, comm::ReduceOp::kMax) != 0;
  };
  while (is_short_somewhere()) {
    const std::optional<int64_t> num_items = source.halve_micro_batches();
    if (!num_items)
      fail(ErrorKind::kDevice,
           "training.auto_find_batch_size: out of memory with the largest row (or bin) alone in a micro-batch. Try a "
           "smaller data.max_length, or training.gradient_checkpointing: selective or true.");
    tell(concat("training.auto_find_batch_size: the largest micro-batch does not fit into memory; ", *num_items,
                *num_items == 1 ? " row (or bin)" : " rows (or bins)",
                " in each from now on, and more of them in an update, which stays the same."));
  }
}

}  // namespace dsft::train

#pragma once

#include <functional>
#include <string>

#include "batch/batch.h"
#include "comm/communicator.h"
#include "train/training_step.h"

namespace dsft::train {

/// training.auto_find_batch_size: halves the source's micro-batches until the largest of them goes through forward,
/// loss and backward pass in the memory of every rank's device. Updates stay the same. `tell` hears of each time.
/// Throws kDevice where one item is too much. Collective.
void fit_micro_batches(StepSource& source, TrainingStep& step, at::Device device, comm::Communicator& communicator,
                       const std::function<void(const std::string&)>& tell);

}  // namespace dsft::train

#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>

#include "base/logger.h"
#include "comm/communicator.h"
#include "train/stop_signal.h"

namespace dsft::train {

/// Where and as whom a job runs; travels as an argument.
struct RunContext {
  comm::Communicator& communicator;  ///< over CPU tensors: control, counts and, on CPU ranks, gradients
  at::Device device;
  uint64_t seed = 42;
  std::filesystem::path output_dir;
  const Logger& logger;
  const StopSignal* stop_signal = nullptr;  ///< of the process; null: only the plan ends the run
};

}  // namespace dsft::train

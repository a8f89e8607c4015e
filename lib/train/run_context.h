#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>

#include "base/logger.h"
#include "comm/communicator.h"
#include "comm/timed_communicator.h"
#include "device/device.h"
#include "train/stop_signal.h"
#include "watchdog/heart.h"

namespace dsft::train {

/// When an update's loss and norm are read and told: as soon as it is enqueued, or once the next one is.
enum class NumbersAreRead { kAtOnce, kAfterNext };

/// Where and as whom a job runs; travels as an argument.
struct RunContext {
  comm::Communicator& communicator;  ///< over CPU tensors: control and counts
  at::Device device;
  uint64_t seed = 42;
  std::filesystem::path output_dir;
  const Logger& logger;
  const StopSignal* stop_signal = nullptr;  ///< of the process; null: only the plan ends the run
  NumbersAreRead numbers_are_read =         ///< late where the device works beside the host, and would wait for it
      device::is_asynchronous(device) ? NumbersAreRead::kAfterNext : NumbersAreRead::kAtOnce;
  /// The same ranks over tensors on `device`; null: `communicator` serves these too.
  comm::Communicator* device_communicator = nullptr;
  int num_ranks_of_host = 1;  ///< of this job, this one included
  comm::Communicator& of_device() const { return device_communicator ? *device_communicator : communicator; }
  comm::WaitTimes* waits = nullptr;  ///< of of_device(), where they are measured; null: they are not
  watchdog::Heart* heart = nullptr;  ///< tells the launcher what this rank does; null: nobody is told
  /// Whether a signal has asked this process to end the run.
  bool is_asked_to_stop() const { return stop_signal && stop_signal->caught() != 0; }
  /// A phase outside of updates begins.
  void enter(const char* phase) const {
    if (heart) heart->enter(watchdog::PhaseKind::kLong, phase);
  }
};

}  // namespace dsft::train

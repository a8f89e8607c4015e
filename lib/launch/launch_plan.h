#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "device/device_config.h"

namespace dsft::launch {

/// What the user asked for.
struct LaunchRequest {
  std::string trainer;                                        ///< path of dsft-trainer
  std::string recipe;                                         ///< path of the YAML file
  std::vector<std::string> overrides;                         ///< "key.path=value"
  device::DeviceChoice device = device::DeviceChoice::kAuto;  ///< of the recipe
  std::optional<int> num_gpus = {};
  std::optional<int> num_procs = {};
};

/// What this machine has and says.
struct Machine {
  int num_visible_gpus = 0;
  int num_cores = 1;  ///< that this process may use
  bool is_root = false;
  bool has_omp_num_threads = false;  ///< the caller's environment sets OMP_NUM_THREADS: it passes untouched
  bool has_omp_wait_policy = false;
};

/// The command to run.
struct LaunchPlan {
  std::vector<std::string> argv;
  int num_ranks = 1;
  bool uses_mpi() const { return num_ranks > 1; }
};

/// The ranks to start: one per GPU; without GPUs one CPU process; or num_procs CPU ranks. One rank needs no mpirun.
/// Contradictions throw kUsage, GPUs that are not there kDevice.
LaunchPlan plan_launch(const LaunchRequest& request, const Machine& machine);

/// The command as a line for a shell.
std::string to_shell_line(const std::vector<std::string>& argv);

/// GPUs that CUDA will show, of `num_devices` in the machine, given CUDA_VISIBLE_DEVICES (none: unset): indices and
/// GPU- or MIG- names up to the first one that is not valid, as the CUDA driver reads it.
int count_visible_gpus(std::optional<std::string_view> cuda_visible_devices, int num_devices);

/// Cores that this process may use: its affinity and the CPU quota of its control group.
int count_usable_cores();

}  // namespace dsft::launch

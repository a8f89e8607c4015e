#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/fault.h"
#include "device/device_config.h"
#include "launch/hosts.h"

namespace dsft::launch {

/// An Accelerate file's num_processes: ranks of all hosts together.
struct ImportedRanks {
  int number = 1;
  config::Position position;
};

/// An Accelerate file's gpu_ids: GPUs of this machine, by number.
struct ImportedGpus {
  std::vector<int> numbers;
  config::Position position;
};

/// What the user asked for.
struct LaunchRequest {
  std::string trainer;                                        ///< path of dsft-trainer
  std::string recipe;                                         ///< path of the YAML file
  std::vector<std::string> overrides;                         ///< "key.path=value"
  device::DeviceChoice device = device::DeviceChoice::kAuto;  ///< of the recipe
  std::optional<int> num_gpus = {};
  std::optional<int> num_procs = {};
  std::vector<Host> hosts = {};                      ///< of the hostfile; empty: this machine
  std::string hostfile = {};                         ///< its path, for messages
  std::string include = {}, exclude = {};            ///< slots of the hosts, or GPUs of this machine
  std::optional<ImportedRanks> imported_ranks = {};  ///< used where none of the options above chooses
  std::optional<ImportedGpus> imported_gpus = {};    ///< likewise, of this machine alone
};

/// What this machine has and says.
struct Machine {
  int num_visible_gpus = 0;
  int num_cores = 1;  ///< that this process may use
  bool is_root = false;
  bool has_omp_num_threads = false;  ///< the caller's environment sets OMP_NUM_THREADS: it passes untouched
  bool has_omp_wait_policy = false;
  bool has_bind_cores = false;
  std::optional<std::string> cuda_visible_devices = {};  ///< the caller's
  std::optional<std::vector<int>> gpu_numbers = {};      ///< of the visible GPUs; none: they are given by other names
  std::string host_name = "localhost";
  /// The release of mpirun, whose options differ; asked for only where mpirun is used.
  std::function<int()> open_mpi_major = [] { return 4; };
  std::vector<std::string> variables = {};  ///< names of the caller's environment, for other hosts
};

/// The command to run.
struct LaunchPlan {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> environment = {};  ///< added to the caller's
  int num_ranks = 1;
  bool has_remote_hosts = false;
  std::vector<std::string> warnings = {};

  bool uses_mpi() const { return num_ranks > 1 || has_remote_hosts; }
};

/// The ranks to start: one per GPU; without GPUs one CPU process; or num_procs CPU ranks. With hosts one per slot, or
/// the first num_gpus of each, or num_procs of all. What an Accelerate file says counts where no option does: its
/// number of ranks in all, its GPUs where CUDA_VISIBLE_DEVICES is not set either. One rank here needs no mpirun.
/// Contradictions throw kUsage, GPUs that are not there kDevice.
LaunchPlan plan_launch(const LaunchRequest& request, const Machine& machine);

/// The command as a line for a shell, with the variables that it adds.
std::string to_shell_line(const LaunchPlan& plan);
std::string to_shell_line(const std::vector<std::string>& argv);

}  // namespace dsft::launch

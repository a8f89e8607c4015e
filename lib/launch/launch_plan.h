#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "device/device_config.h"
#include "launch/hosts.h"

namespace dsft::launch {

/// What the user asked for.
struct LaunchRequest {
  std::string trainer;                                        ///< path of dsft-trainer
  std::string recipe;                                         ///< path of the YAML file
  std::vector<std::string> overrides;                         ///< "key.path=value"
  device::DeviceChoice device = device::DeviceChoice::kAuto;  ///< of the recipe
  std::optional<int> num_gpus = {};
  std::optional<int> num_procs = {};
  std::vector<Host> hosts = {};            ///< of the hostfile; empty: this machine
  std::string hostfile = {};               ///< its path, for messages
  std::string include = {}, exclude = {};  ///< slots of the hosts, or GPUs of this machine
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
  int open_mpi_major = 4;                   ///< the release of mpirun: their options differ
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
/// the first num_gpus of each, or num_procs of all. One rank here needs no mpirun. Contradictions throw kUsage, GPUs
/// that are not there kDevice.
LaunchPlan plan_launch(const LaunchRequest& request, const Machine& machine);

/// The command as a line for a shell, with the variables that it adds.
std::string to_shell_line(const LaunchPlan& plan);
std::string to_shell_line(const std::vector<std::string>& argv);

/// GPUs that CUDA will show, of `num_devices` in the machine, given CUDA_VISIBLE_DEVICES (none: unset): indices and
/// GPU- or MIG- names up to the first one that is not valid, as the CUDA driver reads it.
int count_visible_gpus(std::optional<std::string_view> cuda_visible_devices, int num_devices);

/// Their numbers where all are given by numbers; else nothing.
std::optional<std::vector<int>> visible_gpu_numbers(std::optional<std::string_view> cuda_visible_devices,
                                                    int num_devices);

/// The names of those variables that other hosts get: all but the ones that describe a host or a login, and those by
/// which mpirun and batch systems talk to their own processes.
std::vector<std::string> variables_for_other_hosts(const std::vector<std::string>& names);

/// Cores that this process may use: its affinity and the CPU quota of its control group.
int count_usable_cores();

/// The names of all variables of this process.
std::vector<std::string> environment_names();

}  // namespace dsft::launch

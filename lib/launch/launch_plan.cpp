#include "launch/launch_plan.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <fstream>

#include "base/error.h"

namespace dsft::launch {
namespace {

constexpr std::string_view kSafeCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,+@%";

int num_cpu_ranks(const LaunchRequest& request) {
  const int num_ranks = *request.num_procs;
  if (num_ranks < 1) fail(ErrorKind::kUsage, "--num-procs is ", num_ranks, "; it must be at least 1");
  if (request.num_gpus) fail(ErrorKind::kUsage, "--num-gpus and --num-procs contradict each other; write one");
  if (request.device == device::DeviceChoice::kCuda) {
    fail(ErrorKind::kUsage, "--num-procs starts CPU ranks, but the recipe says device: cuda; use --num-gpus");
  }
  return num_ranks;
}

int num_gpu_ranks(const LaunchRequest& request, const Machine& machine) {
  if (request.num_gpus && *request.num_gpus < 1) {
    fail(ErrorKind::kUsage, "--num-gpus is ", *request.num_gpus, "; it must be at least 1");
  }
  if (request.num_gpus && request.device == device::DeviceChoice::kCpu) {
    fail(ErrorKind::kUsage, "--num-gpus starts one rank per GPU, but the recipe says device: cpu; use --num-procs");
  }
  if (request.device == device::DeviceChoice::kCpu) return 1;
  const bool needs_gpu = request.num_gpus || request.device == device::DeviceChoice::kCuda;
  const int num_ranks = request.num_gpus.value_or(std::max(1, machine.num_visible_gpus));
  if (needs_gpu && num_ranks > machine.num_visible_gpus) {
    fail(ErrorKind::kDevice, num_ranks, num_ranks == 1 ? " GPU is" : " GPUs are", " asked for, but ",
         machine.num_visible_gpus,
         " can be used here: see `dsft env`, nvidia-smi and CUDA_VISIBLE_DEVICES; without GPUs use device=cpu");
  }
  return num_ranks;
}

}  // namespace

LaunchPlan plan_launch(const LaunchRequest& request, const Machine& machine) {
  LaunchPlan plan;
  plan.num_ranks = request.num_procs ? num_cpu_ranks(request) : num_gpu_ranks(request, machine);
  std::vector<std::string>& argv = plan.argv;
  if (plan.uses_mpi()) {
    argv = {"mpirun"};
    if (machine.is_root) argv.push_back("--allow-run-as-root");
    // ranks are threads of all cores, bound by nobody; more ranks than cores are the user's choice
    argv.insert(argv.end(), {"--oversubscribe", "--bind-to", "none", "-n", std::to_string(plan.num_ranks)});
    const int num_threads = std::max(1, machine.num_cores / plan.num_ranks);
    if (!machine.has_omp_num_threads) {
      argv.insert(argv.end(), {"-x", concat("OMP_NUM_THREADS=", num_threads)});
    }
    // threads that spin while they wait take the cores from the other ranks
    if (!machine.has_omp_wait_policy) argv.insert(argv.end(), {"-x", "OMP_WAIT_POLICY=passive"});
  }
  argv.insert(argv.end(), {request.trainer, "train", request.recipe});
  argv.insert(argv.end(), request.overrides.begin(), request.overrides.end());
  if (request.num_procs && request.device == device::DeviceChoice::kAuto) argv.push_back("device=cpu");
  return plan;
}

std::string to_shell_line(const std::vector<std::string>& argv) {
  std::string line;
  for (const std::string& word : argv) {
    if (!line.empty()) line += ' ';
    if (!word.empty() && word.find_first_not_of(kSafeCharacters) == std::string::npos) {
      line += word;
      continue;
    }
    line += '\'';
    for (char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

int count_visible_gpus(std::optional<std::string_view> cuda_visible_devices, int num_devices) {
  if (!cuda_visible_devices || num_devices == 0) return num_devices;
  int num_visible = 0;
  std::string_view rest = *cuda_visible_devices;
  while (!rest.empty()) {
    const std::string_view entry = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
    int index = -1;
    const auto [stop, error] = std::from_chars(entry.data(), entry.data() + entry.size(), index);
    const bool is_index =
        error == std::errc() && stop == entry.data() + entry.size() && index >= 0 && index < num_devices;
    if (!is_index && !entry.starts_with("GPU-") && !entry.starts_with("MIG-")) break;
    ++num_visible;
  }
  return num_visible;
}

int count_usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int num_cores = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (file >> quota >> period && period > 0) num_cores = std::min(num_cores, static_cast<int>(quota / period));
  return std::max(1, num_cores);
}

}  // namespace dsft::launch

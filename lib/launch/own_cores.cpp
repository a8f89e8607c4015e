#include "launch/own_cores.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace dsft::launch {
namespace {

/// A number of /sys/devices/system/cpu/cpuN/topology; `fallback` where the system does not tell.
int read_topology(int cpu, const char* name, int fallback) {
  std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/" + name);
  int value = 0;
  return file >> value ? value : fallback;
}

}  // namespace

std::vector<int> own_cpus(const std::vector<Core>& cores, int local_rank, int local_size) {
  if (static_cast<int>(cores.size()) < local_size) return {};
  const auto begin_of = [&](int rank) {
    return cores.size() * static_cast<size_t>(rank) / static_cast<size_t>(local_size);
  };
  std::vector<int> cpus;
  for (size_t i = begin_of(local_rank); i < begin_of(local_rank + 1); ++i) {
    cpus.insert(cpus.end(), cores[i].begin(), cores[i].end());
  }
  return cpus;
}

std::vector<Core> usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return {};
  std::map<std::pair<int, int>, Core> by_place;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    by_place[{read_topology(cpu, "physical_package_id", 0), read_topology(cpu, "core_id", cpu)}].push_back(cpu);
  }
  std::vector<Core> cores;
  for (auto& [place, core] : by_place) cores.push_back(std::move(core));
  return cores;
}

void bind_to_own_cores(int local_rank, int local_size, const GetVariable& get_variable) {
  const char* asks = get_variable("DSFT_BIND_CORES");
  if (asks == nullptr || std::string_view(asks) != "1" || local_size < 2) return;
  const std::vector<int> cpus = own_cpus(usable_cores(), local_rank, local_size);
  if (cpus.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int cpu : cpus) CPU_SET(cpu, &set);
  // a system that forbids it leaves the ranks where they were, which is slower at most
  ::sched_setaffinity(0, sizeof set, &set);
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

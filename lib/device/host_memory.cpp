#include "device/host_memory.h"

#include <algorithm>
#include <fstream>
#include <iomanip>
#include <optional>
#include <sstream>

#include "base/error.h"

namespace dsft::device {
namespace {

namespace fs = std::filesystem;

// v1 writes "no limit" as the largest multiple of a page
constexpr int64_t kNoLimit = int64_t{1} << 60;

// The number behind a key in a file of lines "key number"; "key:" is the key of /proc/meminfo.
std::optional<int64_t> find_number(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  std::string word;
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    int64_t number = 0;
    if (in >> word && word == key && in >> number) return number;
  }
  return std::nullopt;
}

// What a file holds if it is a number: memory.max holds "max" where there is no limit.
std::optional<int64_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  int64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

/// The files of one version of control groups.
struct Version {
  const char *limit, *usage, *inactive, *active;
};
constexpr Version kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                            "total_active_file"};
constexpr Version kVersion2{"memory.max", "memory.current", "inactive_file", "active_file"};

void consider(const fs::path& group, const Version& version, HostMemory& tightest) {
  const auto limit = read_number(group / version.limit), usage = read_number(group / version.usage);
  if (!limit || !usage || *limit >= kNoLimit) return;
  const fs::path stat = group / "memory.stat";
  const int64_t cached =
      find_number(stat, version.inactive).value_or(0) + find_number(stat, version.active).value_or(0);
  const int64_t free = std::max<int64_t>(0, *limit - std::max<int64_t>(0, *usage - cached));
  if (free < tightest.free_bytes) tightest = {free, *limit, (group / version.limit).string()};
}

// A group and all above it. In a container the path may be the host's, of which nothing is seen but the mount itself.
void consider_with_parents(const fs::path& mount, const std::string& path, const Version& version,
                           HostMemory& tightest) {
  const fs::path relative = fs::path(path).relative_path();
  fs::path group = mount;
  consider(group, version, tightest);
  for (const fs::path& part : relative) {
    if (part == "..") return;  // a group outside of what this process sees
    group /= part;
    consider(group, version, tightest);
  }
}

std::string gib(int64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << static_cast<double>(bytes) / (int64_t{1} << 30) << " GiB";
  return out.str();
}

}  // namespace

HostMemory free_host_memory(const fs::path& root) {
  const fs::path meminfo = root / "proc/meminfo";
  const auto total = find_number(meminfo, "MemTotal:"), available = find_number(meminfo, "MemAvailable:");
  if (!total || !available)
    fail(ErrorKind::kDevice, "cannot tell how much memory this host has: ", meminfo.string(),
         " says no MemTotal and MemAvailable. Mount /proc.");
  HostMemory tightest{*available * 1024, *total * 1024, "MemAvailable of " + meminfo.string()};
  // lines "id:controllers:path"; version 2 has id 0 and no controllers
  std::ifstream groups(root / "proc/self/cgroup");
  const fs::path mount = root / "sys/fs/cgroup";
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = first == line.npos ? first : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    if (line.starts_with("0::"))
      consider_with_parents(mount, path, kVersion2, tightest);
    else if (controllers.find(",memory,") != controllers.npos)
      consider_with_parents(mount / "memory", path, kVersion1, tightest);
  }
  return tightest;
}

void require_host_memory(const std::string& purpose, int64_t bytes_per_rank, int64_t num_ranks,
                         const std::string& remedy, const HostMemory& memory) {
  const int64_t wanted = bytes_per_rank * num_ranks;
  if (wanted <= memory.free_bytes) return;
  const std::string parts =
      num_ranks == 1 ? "" : concat(" (", num_ranks, " ranks of this host, ", gib(bytes_per_rank), " each)");
  fail(ErrorKind::kDevice, purpose, " needs ", gib(wanted), " of host memory", parts, ", but only ",
       gib(memory.free_bytes), " of ", gib(memory.limit_bytes), " are free by ", memory.limited_by,
       ". Give the job more memory (Slurm: --mem, containers: --memory), spread its ranks over more hosts, or ", remedy,
       ".");
}

}  // namespace dsft::device

#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace dsft::device {

/// How much memory this process may still take on its host, by the tightest of the limits that hold for it.
struct HostMemory {
  int64_t free_bytes = 0;
  int64_t limit_bytes = 0;
  std::string limited_by;  ///< the file that says so
};

/// Reads MemAvailable of /proc/meminfo and the memory limits of this process's control groups and of those above them
/// (v2: memory.max and memory.current, v1: memory.limit_in_bytes and memory.usage_in_bytes). File pages in the cache
/// are free: the kernel drops them for whoever needs memory. Swap is not, for pinned pages cannot go there. `root`
/// stands for /: tests have their own.
HostMemory free_host_memory(const std::filesystem::path& root = "/");

/// Faults (kDevice), before any of it is taken, where `num_ranks` processes of this host, which take `bytes_per_rank`
/// each at the same time, do not find it. `purpose` begins the sentence, such as "the offloaded optimizer state";
/// `remedy` ends it: what else could be done.
void require_host_memory(const std::string& purpose, int64_t bytes_per_rank, int64_t num_ranks,
                         const std::string& remedy, const HostMemory& memory = free_host_memory());

}  // namespace dsft::device

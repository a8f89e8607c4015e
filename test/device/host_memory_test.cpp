#include "device/host_memory.h"

#include "catch_amalgamated.hpp"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using device::free_host_memory;

namespace {

constexpr int64_t kGib = int64_t{1} << 30;

/// A host of 64 GiB, of which 48 are free.
struct Host {
  test::TempDir root;
  Host() { root.write("proc/meminfo", "MemTotal:       67108864 kB\nMemAvailable:   50331648 kB\nSwapFree: 8 kB\n"); }

  void write_group(const std::string& folder, const std::string& limit, int64_t used, const std::string& stat = "") {
    root.write(folder + "/memory.max", limit + "\n");
    root.write(folder + "/memory.current", std::to_string(used) + "\n");
    root.write(folder + "/memory.stat", stat);
  }
  int64_t free_gib() const { return free_host_memory(root.path()).free_bytes / kGib; }
};

std::string gib(int64_t count) {
  return std::to_string(count * kGib);
}

}  // namespace

TEST_CASE("Without control groups the host's available memory counts", "[device]") {
  const Host host;
  const device::HostMemory memory = free_host_memory(host.root.path());
  CHECK(memory.free_bytes == 48 * kGib);
  CHECK(memory.limit_bytes == 64 * kGib);
  CHECK(memory.limited_by.find("MemAvailable") != std::string::npos);
}

TEST_CASE("The tightest limit of a control group and those above it counts, file pages being free", "[device]") {
  Host host;
  host.root.write("proc/self/cgroup", "0::/slurm/job_7/step_0\n");
  host.write_group("sys/fs/cgroup/slurm", gib(60), 10 * kGib);
  CHECK(host.free_gib() == 48);  // of the host: 50 are free there
  host.write_group("sys/fs/cgroup/slurm/job_7", gib(40), 30 * kGib, "anon 5\ninactive_file " + gib(12) + "\n");
  CHECK(host.free_gib() == 22);
  host.write_group("sys/fs/cgroup/slurm/job_7/step_0", "max", 30 * kGib);
  const device::HostMemory memory = free_host_memory(host.root.path());
  CHECK(memory.free_bytes == 22 * kGib);
  CHECK(memory.limit_bytes == 40 * kGib);
  CHECK(memory.limited_by.ends_with("sys/fs/cgroup/slurm/job_7/memory.max"));
  host.write_group("sys/fs/cgroup/slurm/job_7", gib(40), 41 * kGib);
  CHECK(host.free_gib() == 0);
}

TEST_CASE("In a container that sees the host's path the limit stands at the mount", "[device]") {
  Host host;
  const auto path = GENERATE("/kubepods/pod1/abc", "/", "/../../outside");
  host.root.write("proc/self/cgroup", "0::" + std::string(path) + "\n");
  host.write_group("sys/fs/cgroup", gib(16), 4 * kGib, "active_file " + gib(1) + "\ninactive_file " + gib(1) + "\n");
  CHECK(host.free_gib() == 14);
}

TEST_CASE("Control groups of version 1 count too, and their largest number is no limit", "[device]") {
  const Host host;
  host.root.write("proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n");
  host.root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  host.root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", gib(20));
  CHECK(host.free_gib() == 48);
  host.root.write("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", gib(32));
  host.root.write("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", gib(12));
  host.root.write("sys/fs/cgroup/memory/docker/abc/memory.stat",
                  "inactive_file 1\ntotal_inactive_file " + gib(3) + "\ntotal_active_file " + gib(1) + "\n");
  CHECK(host.free_gib() == 24);
}

TEST_CASE("This host has memory, and one without /proc is a fault", "[device]") {
  CHECK(free_host_memory().free_bytes > 0);
  CHECK(free_host_memory().free_bytes <= free_host_memory().limit_bytes);
  const test::TempDir empty;
  test::require_error(ErrorKind::kDevice, {"proc/meminfo", "Mount /proc"}, [&] { free_host_memory(empty.path()); });
}

TEST_CASE("Memory that all ranks of a host do not find is one fault with all its numbers", "[device]") {
  const device::HostMemory memory{30 * kGib, 64 * kGib, "/sys/fs/cgroup/job/memory.max"};
  CHECK_NOTHROW(device::require_host_memory("the state", 15 * kGib, 2, "offload less", memory));
  const auto ask = [&](int64_t each, int64_t ranks) {
    return [=] { device::require_host_memory("the offloaded optimizer state", each, ranks, "offload less", memory); };
  };
  const std::string text = test::require_error(
      ErrorKind::kDevice,
      {"the offloaded optimizer state needs 42.0 GiB of host memory (2 ranks of this host, 21.0 GiB each), but only "
       "30.0 GiB of 64.0 GiB are free by /sys/fs/cgroup/job/memory.max. ",
       "--mem", "or offload less."},
      ask(21 * kGib, 2));
  CHECK(text.find('\n') == std::string::npos);
  test::require_error(ErrorKind::kDevice, {"needs 31.0 GiB of host memory, but"}, ask(31 * kGib, 1));
}

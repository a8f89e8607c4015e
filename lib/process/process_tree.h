#pragma once

#include <sys/types.h>

#include <string_view>
#include <vector>

namespace dsft::process {

/// A process that cannot be confused with a later one of the same number.
struct ProcessId {
  pid_t pid = 0;
  unsigned long long start_time = 0;  ///< clock ticks since boot

  bool operator==(const ProcessId&) const = default;
};

/// All processes below `root` now, children before grandchildren, read from /proc; they may be in process groups of
/// their own. Processes that end meanwhile are left out.
std::vector<ProcessId> find_descendants(pid_t root);

/// The processes that `parent` has started itself, now.
std::vector<ProcessId> find_children(pid_t parent);

/// Whether a process was started with this environment variable; false where /proc does not tell.
bool has_environment_variable(const ProcessId& process, std::string_view name);

/// Sends a signal to those that still run.
void send_signal(const std::vector<ProcessId>& processes, int signal);

/// True for a process that still runs (zombies do not).
bool is_running(const ProcessId& process);

}  // namespace dsft::process

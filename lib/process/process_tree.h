#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
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

/// The processes of a session, which is named by the pid of its first.
std::vector<ProcessId> find_session(pid_t session);

/// All processes that were started with this environment variable: also those that have left their parent, group and
/// session behind.
std::vector<ProcessId> find_with_variable(std::string_view name, std::string_view value);

/// Threads of the whole machine, as /proc/loadavg counts them; 0 where it does not tell. Cheap: one small file.
int64_t count_machine_threads();

/// Those of `root` and all processes below it that are stopped now (SIGSTOP; not those that a debugger holds).
std::vector<ProcessId> find_stopped(pid_t root);

/// The value of the environment variable with which a process was started; nothing where it has none, or /proc does not
/// tell.
std::optional<std::string> environment_variable(const ProcessId& process, std::string_view name);

/// Sends a signal to those that still run.
void send_signal(const std::vector<ProcessId>& processes, int signal);

/// True for a process that still runs (zombies do not).
bool is_running(const ProcessId& process);

}  // namespace dsft::process

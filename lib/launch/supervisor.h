#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "launch/heart_monitor.h"
#include "launch/job_end.h"
#include "launch/launch_plan.h"
#include "process/child.h"
#include "process/signal_listener.h"

namespace dsft::launch {

struct SupervisorOptions {
  std::filesystem::path log_dir;  ///< rank.N/stdout and rank.N/stderr of each rank; empty: no logs are kept
  bool appends_logs = false;      ///< to files that are there
  /// Gets what is to be seen while ranks run under mpirun: all of rank 0, warnings of the others. A single process
  /// without log_dir writes to the terminal itself.
  std::function<void(process::Stream, std::string_view line)> on_line;
  std::chrono::milliseconds kill_grace{2000};
  HeartLimits limits = {};
};

/// Runs the plan until it ends. The first of `signals` is passed to the ranks, which save and end
/// with 75; a second SIGINT kills them (130). A rank killed by a signal gives 6, and so does one that is stopped or
/// hangs longer than the limits say: then the whole job is killed. No process of the job outlives the call, but for one
/// that the system does not let end within 30 s, or one of another host that is not heard to end within 4 s; no zombie
/// is left.
LaunchResult supervise(const LaunchPlan& plan, const SupervisorOptions& options, process::SignalListener& signals);

}  // namespace dsft::launch

#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "launch/supervisor.h"

namespace dsft::launch {

/// When a job that failed is started again.
struct RestartOptions {
  int max_restarts = 0;
  std::filesystem::path output_dir;  ///< of the recipe: where checkpoints are
  /// Gets a line before each restart.
  std::function<void(const std::string& line)> on_restart;
};

/// Gives the plan, of a run that begins as the user wrote it, or of one that goes on from the newest whole checkpoint.
using MakePlan = std::function<LaunchPlan(bool resumes)>;

/// Whether a job that ended with this code may do better another time: bugs, devices, and ranks that were lost (1, 5,
/// 6).
bool may_be_restarted(int exit_code);

/// supervise(), again after such an end, up to max_restarts times. A restart goes on from a checkpoint where the job
/// has left a whole one since it was started here; before that it begins as it was written, so that checkpoints of an
/// earlier run in the same output_dir are never taken for its own. After a signal nothing is restarted.
LaunchResult supervise_with_restarts(const MakePlan& make_plan, SupervisorOptions options,
                                     const RestartOptions& restarts, process::SignalListener& signals);

}  // namespace dsft::launch

#pragma once

#include <string>

#include "launch/heart_monitor.h"
#include "launch/rank_logs.h"
#include "process/child.h"

namespace dsft::launch {

/// How a run ended.
struct LaunchResult {
  int exit_code = 0;
  std::string reason = {};  ///< one sentence where the code is not 0
  /// Last lines of the rank that failed first, where they have not been passed on; for the end of the output.
  std::string tail = {};
  bool was_asked_to_stop = false;  ///< by a signal
  bool has_survivors = false;      ///< a process of the job could not be ended, or was not heard to end
};

/// mpirun has ended: how, what it wrote itself, and the signal that asked the job to stop, or 0.
struct JobEnd {
  process::ExitStatus status;
  std::string mpirun_words;
  int num_ranks = 1;
  int stop_signal = 0;
};

/// The end of a run that Ctrl-C has cut off.
LaunchResult interrupted();

/// The contract's code for the end of a rank, which mpirun gives as 128 + signal where one killed it. `who` is empty
/// for a process alone; `stop_signal` asked it to stop, or 0.
LaunchResult explain_process(const std::string& who, process::ExitStatus status, int stop_signal);

/// Which host mpirun could not reach, and why, as a sentence, from ssh's words among its own; empty where they say
/// nothing of the kind.
std::string find_ssh_fault(const std::string& mpirun_words);

/// The end of a job of several ranks: which one failed first, by mpirun's words, the ranks' own and their hearts', and
/// with what code.
LaunchResult explain_job(const JobEnd& end, const RankLogs& logs, const HeartMonitor& monitor);

}  // namespace dsft::launch

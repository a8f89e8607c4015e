#pragma once

namespace dsft::train {

/// While it lives, SIGTERM, SIGINT, SIGUSR1 and SIGHUP (unless it was ignored, as by nohup) only raise a flag, so that
/// a run can save and end with 75. A SIGINT after any of them ends the process at once with 130. One at a time in a
/// process: signal handlers are the process's, not a job's.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// The signal that was caught, or 0.
  int caught() const;

  /// The run is over: from now to the end of the process its signals are ignored, so that one that comes late does not
  /// turn what was done into a kill.
  void ignore_from_now();

  /// Ends the process by a signal as if it had not been handled.
  [[noreturn]] void end_process(int signal) const;
};

}  // namespace dsft::train

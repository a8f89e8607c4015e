#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "launch/heart_monitor.h"
#include "watchdog/heart.h"

namespace dsft::apps {

/// Ranks that run where this one does: on the same system, in the same namespace of processes. Collective.
int count_ranks_of_this_machine(comm::Communicator& communicator);

/// Ranks that watch each other where no `dsft launch` does: rank 0 hears the hearts of all, and rank 1 that of rank 0.
/// A rank that is stopped or hangs is named on stderr, killed where it runs on the watching rank's machine, and the
/// watching process ends with kCommunication, which ends the others' collectives.
class PeerWatch final {
 public:
  /// Collective, of two ranks at least. `communicator` is used here alone.
  explicit PeerWatch(comm::Communicator& communicator);
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  /// Where this rank's heart has to beat.
  const std::string& address() const { return address_; }

 private:
  void watch();
  [[noreturn]] void end_job(const launch::Verdict& verdict) const;

  int rank_;
  std::string address_;
  std::vector<pid_t> processes_;                   // by rank; 0 where it is none of this machine
  std::unique_ptr<launch::HeartMonitor> monitor_;  // on rank 0 of all ranks, on rank 1 of rank 0
  std::unique_ptr<watchdog::Heart> second_heart_;  // of rank 0, for rank 1
  std::mutex mutex_;
  std::condition_variable wake_;
  bool is_over_ = false;
  std::thread thread_;
};

}  // namespace dsft::apps

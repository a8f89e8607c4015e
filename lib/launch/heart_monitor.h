#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "process/file_descriptor.h"
#include "watchdog/beat.h"

namespace dsft::launch {

/// How long the launcher waits before it ends a job.
struct HeartLimits {
  using Seconds = std::chrono::duration<double>;

  Seconds silence{8};                       ///< without a beat
  Seconds start{120};                       ///< until every rank beats, and until they have found each other
  Seconds phase{3600};                      ///< loading, evaluating or saving without progress
  std::optional<Seconds> step = {};         ///< of an update; none: the larger of 60 s and 20 times the median
  Seconds least_step{60}, first_step{600};  ///< without a median
  double median_steps = 20;

  /// Of the phase that a beat tells.
  Seconds of(const watchdog::Beat& beat) const;
};

/// A rank that is lost or hangs, in words that begin with it: "rank 1 hangs: ...".
struct Verdict {
  int rank = 0;
  std::string reason;
};

/// Decides from the last beats of the ranks that beat whether one hangs. The one to blame is a rank that does not wait
/// for the others, of several the one whose last collective is the earliest; where all wait, the one in the earliest.
std::optional<Verdict> find_hang(const std::vector<watchdog::Beat>& beats, const HeartLimits& limits);

/// Listens to the ranks' hearts (watchdog::Heart), on a thread of its own.
class HeartMonitor final {
 public:
  /// Listens at a socket in `folder`, or, where ranks are on other hosts, at a free port of this machine.
  HeartMonitor(int num_ranks, const std::filesystem::path& folder, bool has_remote_hosts, const HeartLimits& limits);
  ~HeartMonitor();
  HeartMonitor(const HeartMonitor&) = delete;
  HeartMonitor& operator=(const HeartMonitor&) = delete;

  /// For the ranks' environment variable DSFT_WATCHDOG.
  const std::string& address() const { return address_; }

  /// The first rank that was found lost or hanging.
  std::optional<Verdict> verdict() const;

  /// The first rank whose connection ended without a farewell, and when: it was killed, or aborted the job.
  struct Loss {
    int rank = 0;
    std::chrono::steady_clock::time_point at;
  };
  std::optional<Loss> first_loss() const;

  /// What a rank did last: "step 12: forward"; empty where it has not told.
  std::string last_words(int rank) const;

  /// Asks the ranks to save and stop.
  void ask_to_stop();

  /// Tells the ranks that the job is over, and waits until none is connected any more, at most so long. Those that are.
  std::vector<int> end_ranks(std::chrono::milliseconds bound);

 private:
  using Clock = std::chrono::steady_clock;
  struct Connection;
  /// Time in which the launcher did not run.
  struct Pause {
    Clock::time_point end;
    Clock::duration length;
  };

  void listen_on_path(const std::filesystem::path& folder);
  void listen_on_port();
  void watch();
  void accept_all();
  void read(Connection& connection);
  void take_line(Connection& connection, std::string_view line);
  void tell(std::string_view word);
  void judge();
  std::vector<watchdog::Beat> current_beats() const;

  int num_ranks_;
  HeartLimits limits_;
  std::string token_, address_;
  process::FileDescriptor listener_;
  process::PipeEnds wake_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::map<int, watchdog::Beat> beats_;  ///< the last one of each rank
  std::optional<Verdict> verdict_;
  std::optional<Loss> first_loss_;
  Clock::time_point begin_ = Clock::now(), last_look_ = Clock::now();
  std::vector<Pause> pauses_;
  bool is_over_ = false;
  std::thread thread_;
};

}  // namespace dsft::launch

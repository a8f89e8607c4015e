#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "watchdog/beat.h"

namespace dsft::watchdog {

/// Tells the launcher twice a second, and when a phase begins, that this rank lives and what it does. Where no launcher
/// listens every call is one comparison. Any thread may call it; nothing here waits for a device or for the launcher.
class Heart final {
 public:
  /// For a rank that nobody watches.
  Heart() = default;

  /// Beats at `address` (DSFT_WATCHDOG; none or empty: nobody listens). An address that does not answer throws
  /// kCommunication. When the launcher asks to stop, this process gets SIGUSR1; when it says that the job is over, or
  /// is gone, the process ends (kCommunication).
  Heart(const char* address, int rank);

  /// Says farewell: this rank ends by itself.
  ~Heart();
  Heart(const Heart&) = delete;
  Heart& operator=(const Heart&) = delete;

  bool is_watched() const { return socket_ >= 0; }

  /// A phase begins: `name` is a literal such as "loading weights", or, in update `step`, "forward".
  void enter(PhaseKind kind, const char* name, int64_t step = 0) {
    if (is_watched()) begin_phase(kind, name, step);
  }
  /// The phase has come on: its time counts from now again.
  void progress() {
    if (is_watched()) restart_phase();
  }

  /// A collective was started: `name` is a literal such as "all-reduce", `subject` what it is of, perhaps empty.
  void started(const char* name, int64_t number, std::string_view subject) {
    if (is_watched()) note_call(last_call_, name, number, subject);
  }
  /// A collective is waited for, until waits_no_more().
  void waits(const char* name, int64_t number, std::string_view subject) {
    if (is_watched()) note_call(call_, name, number, subject);
  }
  void waits_no_more() {
    if (is_watched()) note_call(call_, nullptr, 0, {});
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Call {
    const char* name = nullptr;
    int64_t number = 0;
    std::string subject;
    std::string text() const;
  };

  void begin_phase(PhaseKind kind, const char* name, int64_t step);
  void restart_phase();
  void note_call(Call& call, const char* name, int64_t number, std::string_view subject);
  Beat current() const;
  void beat_until_over();
  void send(std::string_view line);
  void listen();
  [[noreturn]] void end_process(const char* reason) const;

  int socket_ = -1;
  int rank_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool is_over_ = false, has_new_phase_ = false;
  PhaseKind kind_ = PhaseKind::kStart;
  const char* phase_ = "starting";
  int64_t step_ = 0;
  Clock::time_point phase_begin_ = Clock::now();
  int64_t timed_step_ = 0;           ///< the update that began last
  double timed_seconds_ = 0;         ///< that it has taken so far, phases of other kinds left out
  std::deque<double> step_seconds_;  ///< of the last updates that are done
  Call call_, last_call_;
  std::string unsent_;  ///< of a line of which the socket took a part
  std::string heard_;
  Clock::time_point launcher_gone_at_{};
  std::thread thread_;
};

}  // namespace dsft::watchdog

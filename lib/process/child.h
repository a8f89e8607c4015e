#pragma once

#include <poll.h>
#include <sys/types.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "process/file_descriptor.h"

namespace dsft::process {

enum class Stream { kStdout, kStderr };

/// How a child ended: by an exit code, or by a signal.
struct ExitStatus {
  int exit_code = 0;  ///< meaningful where signal is 0
  int signal = 0;

  /// "ended with code 3" or "was killed by signal 9 (Killed)".
  std::string describe() const;
  bool operator==(const ExitStatus&) const = default;
};

/// Walls around a program that somebody else wrote: a session of its own, no open file of the caller but the three
/// streams, and the first to go where the machine runs out of memory.
struct Isolation {
  std::vector<std::pair<int, uint64_t>> limits = {};  ///< RLIMIT_*, soft and hard; never above the caller's own
};

struct ChildOptions {
  std::vector<std::string> argv;                                      ///< argv[0] is looked up on PATH
  std::vector<std::pair<std::string, std::string>> environment = {};  ///< added to or replacing the caller's
  /// Gets each line of output without its newline, on the thread that waits. Empty: the child writes where the caller
  /// writes (and sees a terminal where there is one).
  std::function<void(Stream, std::string_view line)> on_line = {};
  /// Instead of on_line: gets the output as it comes.
  std::function<void(Stream, std::string_view bytes)> on_bytes = {};
  bool has_input = false;  ///< its standard input is what exchange() writes; else it is empty
  std::function<bool(std::string_view name)> drops_variable = {};  ///< variables of the caller that it does not get
  std::optional<Isolation> isolation = {};
  /// What the child gets when the thread that started it ends.
  int parent_death_signal = SIGTERM;
};

/// A child process in a process group of its own. It never outlives this object, and leaves no zombie.
class Child final {
 public:
  /// Starts it. A program that is missing or cannot be run throws kUsage with its name and the reason.
  explicit Child(ChildOptions options);
  /// Kills the whole tree if it still runs.
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }

  /// Hands on output for at most `timeout`; the status as soon as the child has ended and all its output is read.
  std::optional<ExitStatus> wait_for(std::chrono::milliseconds timeout);
  ExitStatus wait();

  /// For has_input: writes as much of `input` as the child takes and hands on output, until there was something to do
  /// or `timeout` has passed. Gives the bytes written; what a child that has ended or closed its input would have got
  /// counts as none.
  size_t exchange(std::string_view input, std::chrono::milliseconds timeout);
  /// The child sees the end of its input.
  void close_input() { input_.close(); }

  /// Sends a signal to the child alone; nothing once it has ended.
  void send_signal(int signal);

  /// Ends the child and all its descendants, whatever their process group: SIGTERM, SIGKILL after `grace`.
  ExitStatus kill_tree(std::chrono::milliseconds grace);

 private:
  struct Pipe;

  void start(const ChildOptions& options);
  void read_output(std::chrono::milliseconds timeout);
  void take_output(const std::vector<pollfd>& polled);
  bool reap();

  pid_t pid_ = -1;
  FileDescriptor input_;
  std::optional<ExitStatus> status_;
  std::vector<std::unique_ptr<Pipe>> pipes_;
};

}  // namespace dsft::process

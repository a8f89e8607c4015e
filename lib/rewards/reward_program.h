#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "process/child.h"
#include "process/line_splitter.h"
#include "process/output_tail.h"
#include "rewards/protocol.h"
#include "rewards/sample.h"

namespace dsft::rewards {

struct ProgramOptions {
  std::string command;
  double timeout_s = 30;           ///< for each request
  double start_timeout_s = 60;     ///< from the start to the first line
  std::filesystem::path log_file;  ///< gets its standard error, up to kMostLogBytes; made when there is any
};

/// Standard error that is kept; the rest is dropped.
inline constexpr uint64_t kMostLogBytes = 16 << 20;

/// How a command is run: its words where it has nothing but words, else `sh -c`.
std::vector<std::string> to_arguments(const std::string& command);

/// The program that a command names, where it can be told without a shell that there is none; else "".
std::string find_missing_program(const std::string& command);

/// One process of a reward program, kept alive over requests: in a session of its own, without GPUs and without the
/// variables by which ranks find each other, limited in processes, memory and output. Whoever makes it must be the
/// thread that uses it and must live as long: the program is killed with that thread.
class RewardProgram final {
 public:
  /// Does not start it yet. Where `is_stopped` becomes true, a wait ends with an error.
  RewardProgram(ProgramOptions options, const std::atomic<bool>& is_stopped);
  /// Gives it a moment to end by itself.
  ~RewardProgram();
  RewardProgram(const RewardProgram&) = delete;
  RewardProgram& operator=(const RewardProgram&) = delete;

  /// Starts it and reads its first line. Throws kData with what went wrong; then it is ended, with all it started.
  void start();
  /// Whether it has been started and not been ended since.
  bool is_started() const { return child_ != nullptr; }
  /// How it has ended by itself, while nothing was asked; then it is not started any more. Nothing while it runs.
  std::optional<process::ExitStatus> take_end();
  /// Asks for the rewards of samples. Throws kData with what went wrong; then it is ended, with all it started.
  std::vector<std::optional<double>> score(int64_t step, std::span<const Sample> samples);
  /// While nothing is asked: throws kData where it does what it may not, and has ended it then.
  void check_idle();
  /// What it wrote last to its standard error, one line; "" for nothing.
  std::string last_words() const;

 private:
  using Clock = std::chrono::steady_clock;

  std::string converse(std::string_view request, double timeout_s, size_t longest, const std::string& what);
  void take_stray_output();
  void refuse_more(std::string_view where) const;
  void take_output(process::Stream stream, std::string_view bytes);
  void log(std::string_view bytes);
  void check_processes();
  void end(std::chrono::milliseconds grace);

  ProgramOptions options_;
  const std::atomic<bool>& is_stopped_;
  std::string mark_;  ///< value of the variable by which all its processes are found
  LineReader output_;
  size_t longest_line_ = 0;
  process::OutputTail tail_{5};
  process::LineSplitter errors_;
  std::ofstream log_;
  uint64_t num_logged_ = 0;
  int64_t num_threads_seen_ = 0;
  int64_t next_id_ = 0;
  bool is_ending_ = false;
  std::unique_ptr<process::Child> child_;
};

}  // namespace dsft::rewards

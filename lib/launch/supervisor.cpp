#include "launch/supervisor.h"

#include <signal.h>
#include <stdlib.h>

#include <fstream>
#include <optional>
#include <regex>

#include "base/error.h"
#include "launch/rank_logs.h"
#include "process/output_tail.h"
#include "process/process_tree.h"

namespace dsft::launch {
namespace {

using process::ExitStatus;
using process::Stream;

constexpr std::chrono::milliseconds kPollInterval{30};
constexpr std::chrono::seconds kReminderInterval{1};

/// The folder for the ranks' output: the user's, or a temporary one that goes away.
class LogFolder {
 public:
  explicit LogFolder(const std::filesystem::path& kept) : path_(kept) {
    if (path_.empty()) {
      std::string pattern = (std::filesystem::temp_directory_path() / "dsft-launch-XXXXXX").string();
      if (::mkdtemp(pattern.data()) == nullptr) {
        fail(ErrorKind::kUsage, "cannot create a folder for the ranks' output in ",
             std::filesystem::temp_directory_path().string(), ": is the disk full?");
      }
      path_ = temporary_ = pattern;
      return;
    }
    std::error_code error;
    std::filesystem::create_directories(path_, error);
    if (error) fail(ErrorKind::kUsage, "cannot create the log folder ", path_.string(), ": ", error.message());
    path_ = std::filesystem::absolute(path_);
  }

  ~LogFolder() {
    std::error_code ignored;
    if (!temporary_.empty()) std::filesystem::remove_all(temporary_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
};

/// The log files of one rank.
struct RankStreams {
  std::ofstream out, err;
};

/// What the user's signals ask for.
class StopRequests {
 public:
  explicit StopRequests(process::SignalListener& listener) : listener_(listener) {}

  /// Takes what has arrived; calls `forward(signal)` for the first.
  template <typename Forward>
  void take(Forward forward) {
    while (const auto signal = listener_.next()) {
      if (first_ == 0) {
        first_ = *signal;
        forward(*signal);
      } else if (*signal == SIGINT) {
        must_kill_ = true;
      }
    }
  }

  bool must_kill() const { return must_kill_; }
  /// The first signal, or 0.
  int first() const { return first_; }

 private:
  process::SignalListener& listener_;
  int first_ = 0;
  bool must_kill_ = false;
};

LaunchResult interrupted() {
  return {static_cast<int>(ErrorKind::kInterrupted), "interrupted before the run could save", ""};
}

bool is_contract_code(int code) {
  return (code >= 0 && code <= 6) || code == 75 || code == 130;
}

bool is_crash(int signal) {
  return signal == SIGSEGV || signal == SIGABRT || signal == SIGBUS || signal == SIGFPE || signal == SIGILL;
}

bool is_stop_request(int signal) {
  return signal == SIGTERM || signal == SIGINT || signal == SIGUSR1;
}

/// What a signal that nobody asked for means.
LaunchResult explain_death(const std::string& what, int signal, bool is_alone) {
  if (is_crash(signal)) {
    // peers see a rank lost; a process alone is the bug itself
    const ErrorKind kind = is_alone ? ErrorKind::kInternal : ErrorKind::kCommunication;
    return {static_cast<int>(kind), what + ": a bug in dsft or a library; please report it with `dsft env`", ""};
  }
  const std::string hint =
      signal == SIGKILL ? "; where nobody killed it, the machine ran out of memory (see dmesg)" : "";
  return {static_cast<int>(ErrorKind::kCommunication), what + hint, ""};
}

/// The contract's code for the end of a rank, which mpirun gives as 128 + signal where one killed it. `who` is empty
/// for a process alone.
LaunchResult explain(const std::string& who, ExitStatus status, const StopRequests& requests) {
  if (status.signal == 0 && status.exit_code > 128 && !is_contract_code(status.exit_code)) {
    status = {0, status.exit_code - 128};
  }
  if (status == ExitStatus{}) return {};
  if (status == ExitStatus{static_cast<int>(ErrorKind::kStopped), 0}) {
    return {status.exit_code,
            "stopped after saving; the same command with training.resume_from_checkpoint=true goes on", ""};
  }
  const std::string what = (who.empty() ? "the trainer" : who) + " " + status.describe();
  if (status.signal == 0) return {is_contract_code(status.exit_code) ? status.exit_code : 1, what, ""};
  if (requests.first() == 0 || !is_stop_request(status.signal)) return explain_death(what, status.signal, who.empty());
  // stopped before the trainer had its own handlers: nothing was begun, nothing is lost
  if (requests.first() == SIGINT) return interrupted();
  return {static_cast<int>(ErrorKind::kStopped), what + " before the run began", ""};
}

/// Opens the files of a process alone, laid out as mpirun lays out those of ranks.
RankStreams open_streams(const std::filesystem::path& log_dir) {
  const std::filesystem::path folder = rank_folder(LogFolder(log_dir).path(), 0, 1);
  std::error_code error;
  std::filesystem::create_directory(folder, error);
  RankStreams streams{std::ofstream(folder / "stdout"), std::ofstream(folder / "stderr")};
  if (!streams.out || !streams.err) fail(ErrorKind::kUsage, "cannot write the logs in ", folder.string());
  return streams;
}

LaunchResult supervise_one(const LaunchPlan& plan, const SupervisorOptions& options, process::SignalListener& signals) {
  process::ChildOptions child_options{.argv = plan.argv, .environment = {}};
  RankStreams log;
  if (!options.log_dir.empty()) {
    log = open_streams(options.log_dir);
    child_options.on_line = [&](Stream stream, std::string_view line) {
      (stream == Stream::kStdout ? log.out : log.err) << line << std::endl;
      options.on_line(stream, line);
    };
  }
  process::Child child(child_options);
  StopRequests requests(signals);
  while (true) {
    if (const auto status = child.wait_for(kPollInterval)) return explain("", *status, requests);
    requests.take([&](int signal) { child.send_signal(signal); });
    if (!requests.must_kill()) continue;
    child.kill_tree(options.kill_grace);
    return interrupted();
  }
}

/// The rank that failed first, as mpirun's last words tell (Open MPI 4.1); -1 where they do not.
int failing_rank(const std::string& words) {
  static const std::regex kForms(
      R"(Process name: \[\[\d+,\d+\],(\d+)\]|MPI_ABORT was invoked on rank (\d+)|noticed that process rank (\d+) )");
  std::smatch match;
  if (!std::regex_search(words, match, kForms)) return -1;
  for (size_t i = 1; i < match.size(); ++i) {
    if (match[i].matched) return std::stoi(match[i].str());
  }
  return -1;
}

/// The first rank whose last lines hold the trainer's error message ("error: ", or "error (rank 1): " where it has
/// peers); -1 where there is none.
int rank_with_error(const RankLogs& logs, int num_ranks) {
  for (int rank = 0; rank < num_ranks; ++rank) {
    const std::string text = "\n" + logs.tail(rank).text();
    if (text.find("\nerror: ") != std::string::npos || text.find("\nerror (rank ") != std::string::npos) return rank;
  }
  return -1;
}

LaunchResult explain_ranks(ExitStatus status, const std::string& words, const RankLogs& logs, const LaunchPlan& plan,
                           const StopRequests& requests) {
  if (status == ExitStatus{}) return {};
  int rank = failing_rank(words);
  // mpirun does not always come to name it
  if (rank < 0 || rank >= plan.num_ranks) rank = rank_with_error(logs, plan.num_ranks);
  LaunchResult result = explain(rank < 0 ? "a rank" : concat("rank ", rank), status, requests);
  if (result.exit_code == static_cast<int>(ErrorKind::kStopped)) return result;
  if (rank > 0) result.tail = logs.tail(rank).text();
  if (rank >= 0 || requests.first() != 0) return result;
  for (int other = 1; other < plan.num_ranks; ++other) {
    if (!logs.tail(other).is_empty()) result.tail += concat("rank ", other, ":\n", logs.tail(other).text());
  }
  if (words.find("Primary job") != std::string::npos) return result;
  // no rank has run: what mpirun says is the reason
  result.tail += words;
  if (result.exit_code == 1) result.exit_code = static_cast<int>(ErrorKind::kCommunication);
  result.reason = "mpirun " + status.describe();
  return result;
}

/// Asks the ranks to save and end, by the signal that no terminal sends. mpirun ends the job on SIGTERM, and some
/// installations of it hand no other signal on, so the ranks, its children on this host, get theirs from here.
void ask_ranks_to_stop(const process::Child& mpirun) {
  for (const process::ProcessId& child : process::find_children(mpirun.pid())) {
    if (process::has_environment_variable(child, "OMPI_COMM_WORLD_RANK")) process::send_signal({child}, SIGUSR1);
  }
}

LaunchResult supervise_ranks(const LaunchPlan& plan, const SupervisorOptions& options,
                             process::SignalListener& signals) {
  const LogFolder folder(options.log_dir);
  RankLogs logs(folder.path(), plan.num_ranks, options.on_line);
  process::OutputTail mpirun_words(100);
  process::ChildOptions child_options{.argv = plan.argv, .environment = {}};
  child_options.argv.insert(child_options.argv.begin() + 1,
                            {"--output-filename", folder.path().string() + ":nojobid,nocopy"});
  child_options.on_line = [&](Stream, std::string_view line) { mpirun_words.add(line); };
  process::Child child(child_options);
  StopRequests requests(signals);
  std::chrono::steady_clock::time_point next_reminder;
  while (true) {
    const auto status = child.wait_for(kPollInterval);
    logs.read_new();
    if (status) {
      logs.finish();
      return explain_ranks(*status, mpirun_words.text(), logs, plan, requests);
    }
    requests.take([](int) {});
    // said again until the job ends: a rank may start only now
    const auto now = std::chrono::steady_clock::now();
    if (requests.first() != 0 && now >= next_reminder) {
      ask_ranks_to_stop(child);
      next_reminder = now + kReminderInterval;
    }
    if (!requests.must_kill()) continue;
    child.kill_tree(options.kill_grace);
    logs.finish();
    return interrupted();
  }
}

}  // namespace

LaunchResult supervise(const LaunchPlan& plan, const SupervisorOptions& options, process::SignalListener& signals) {
  return plan.uses_mpi() ? supervise_ranks(plan, options, signals) : supervise_one(plan, options, signals);
}

}  // namespace dsft::launch

#include "launch/supervisor.h"

#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "launch/rank_logs.h"
#include "process/job_reaper.h"
#include "process/output_tail.h"
#include "process/process_tree.h"

namespace dsft::launch {
namespace {

using process::Stream;

constexpr std::chrono::milliseconds kPollInterval{30};
constexpr std::chrono::seconds kReminderInterval{1};
constexpr std::chrono::seconds kRemoteGrace{2};
constexpr std::chrono::seconds kLongestEnd{30};  ///< of a process that was killed: a driver may hold it for a while
constexpr std::chrono::seconds kLongestRemoteEnd{4};

/// A folder that only this user can open, for the socket; it goes away.
class SocketFolder {
 public:
  SocketFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "dsft-launch-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) {
      fail(ErrorKind::kUsage, "cannot create a folder in ", std::filesystem::temp_directory_path().string(),
           ": is the disk full?");
    }
    path_ = pattern;
  }
  ~SocketFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  SocketFolder(const SocketFolder&) = delete;
  SocketFolder& operator=(const SocketFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
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

/// Sees ranks that do not come to an end by themselves: those that hearts tell of, and, on this machine, processes that
/// were stopped before they had one.
class Overseer {
 public:
  Overseer(const HeartMonitor& monitor, pid_t root, const HeartLimits& limits)
      : monitor_(monitor), root_(root), limits_(limits) {}

  std::optional<Verdict> find_fault() {
    if (const auto verdict = monitor_.verdict()) return verdict;
    const Clock::time_point now = Clock::now();
    const auto loss = monitor_.first_loss();
    if (loss && now - loss->at > kLastMoment) {
      return Verdict{loss->rank, concat("rank ", loss->rank, " has gone without a word (",
                                        monitor_.last_words(loss->rank), "), and the others have not ended")};
    }
    if (now < next_look_) return std::nullopt;
    // this program may have been stopped too
    if (now > next_look_ + kLookInterval) stopped_since_.clear();
    next_look_ = now + kLookInterval;
    return find_stopped(now);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kLookInterval{1}, kLastMoment{5};

  std::optional<Verdict> find_stopped(Clock::time_point now) {
    std::map<pid_t, Clock::time_point> still;
    for (const process::ProcessId& stopped : process::find_stopped(root_)) {
      const auto known = stopped_since_.find(stopped.pid);
      const Clock::time_point since = known == stopped_since_.end() ? now : known->second;
      still[stopped.pid] = since;
      if (now - since < limits_.silence) continue;
      const auto rank = process::environment_variable(stopped, "OMPI_COMM_WORLD_RANK");
      const bool is_rank = rank && stopped.pid != root_;
      return Verdict{is_rank ? std::atoi(rank->c_str()) : -1,
                     concat(is_rank ? "rank " + *rank : "process " + std::to_string(stopped.pid) + " of the job",
                            " is lost: it was stopped (SIGSTOP) ",
                            std::chrono::round<std::chrono::seconds>(now - since).count(), " s ago")};
    }
    stopped_since_ = std::move(still);
    return std::nullopt;
  }

  const HeartMonitor& monitor_;
  pid_t root_;
  HeartLimits limits_;
  Clock::time_point next_look_ = Clock::now();
  std::map<pid_t, Clock::time_point> stopped_since_;
};

LaunchResult lost(const Verdict& verdict) {
  return {static_cast<int>(ErrorKind::kCommunication), verdict.reason};
}

/// The launcher's address beside the plan's own variables.
std::vector<std::pair<std::string, std::string>> environment_of(const LaunchPlan& plan, const HeartMonitor& monitor) {
  auto environment = plan.environment;
  environment.emplace_back(watchdog::kAddressVariable, monitor.address());
  return environment;
}

LaunchResult supervise_one(const LaunchPlan& plan, const SupervisorOptions& options, StopRequests& requests) {
  const SocketFolder folder;
  HeartMonitor monitor(1, folder.path(), /*has_remote_hosts=*/false, options.limits);
  process::ChildOptions child_options{.argv = plan.argv, .environment = environment_of(plan, monitor)};
  std::optional<RankLogs> logs;
  if (!options.log_dir.empty()) {
    logs.emplace(options.log_dir, 1, options.appends_logs, [](Stream, std::string_view) {});
    child_options.on_line = [&](Stream stream, std::string_view line) {
      logs->add({0, stream, line, true});
      options.on_line(stream, line);
    };
  }
  process::Child child(child_options);
  Overseer overseer(monitor, child.pid(), options.limits);
  while (true) {
    if (const auto status = child.wait_for(kPollInterval)) return explain_process("", *status, requests.first());
    requests.take([&](int signal) { child.send_signal(signal); });
    const auto fault = overseer.find_fault();
    if (!fault && !requests.must_kill()) continue;
    child.kill_tree(options.kill_grace);
    return fault ? lost(*fault) : interrupted();
  }
}

/// Asks the ranks to save and end, by the signal that no terminal sends. mpirun ends the job on SIGTERM, and some
/// installations of it hand no other signal on, so the ranks of this host get theirs from here, and those of other
/// hosts raise it themselves when their hearts hear of it.
void ask_ranks_to_stop(const process::Child& mpirun, HeartMonitor& monitor, bool has_remote_hosts) {
  if (has_remote_hosts) return monitor.ask_to_stop();
  for (const process::ProcessId& child : process::find_children(mpirun.pid())) {
    if (process::environment_variable(child, "OMPI_COMM_WORLD_RANK")) process::send_signal({child}, SIGUSR1);
  }
}

/// Ends all of a job. mpirun has to tell the other hosts, where it has them.
void kill_job(process::Child& mpirun, const LaunchPlan& plan, const SupervisorOptions& options) {
  if (plan.has_remote_hosts) {
    mpirun.send_signal(SIGTERM);
    mpirun.wait_for(kRemoteGrace);
  }
  mpirun.kill_tree(options.kill_grace);
}

/// mpirun may be gone without having told the other hosts: their ranks hear it from here, those of this host being
/// ended by the reaper.
void end_ranks_of_other_hosts(const LaunchPlan& plan, const SupervisorOptions& options, HeartMonitor& monitor,
                              process::JobReaper& reaper, LaunchResult& result) {
  if (!plan.has_remote_hosts || result.exit_code == 0) return;
  reaper.end_all(options.kill_grace, kLongestEnd);
  const std::vector<int> left = monitor.end_ranks(kLongestRemoteEnd);
  if (left.empty()) return;
  result.has_survivors = true;
  result.reason +=
      concat(result.reason.empty() ? "" : "; ", "rank ", left.front(),
             " has not ended, though it was told to: it may still run on its host, if that can be reached at all");
}

LaunchResult supervise_ranks(const LaunchPlan& plan, const SupervisorOptions& options, StopRequests& requests,
                             process::JobReaper& reaper) {
  const SocketFolder folder;
  HeartMonitor monitor(plan.num_ranks, folder.path(), plan.has_remote_hosts, options.limits);
  RankLogs logs(options.log_dir, plan.num_ranks, options.appends_logs, options.on_line);
  process::OutputTail mpirun_words(100);
  const bool has_space = std::find(plan.argv.begin(), plan.argv.end(), "--output") != plan.argv.end();
  process::ChildOptions child_options{.argv = plan.argv, .environment = environment_of(plan, monitor)};
  child_options.on_line = [&](Stream, std::string_view line) {
    for (const TaggedPart& part : split_tagged(line, has_space)) {
      if (part.rank < 0)
        mpirun_words.add(part.text);
      else
        logs.add(part);
    }
  };
  process::Child child(child_options);
  Overseer overseer(monitor, child.pid(), options.limits);
  std::chrono::steady_clock::time_point next_reminder;
  while (true) {
    if (const auto status = child.wait_for(kPollInterval)) {
      logs.finish();
      LaunchResult result =
          explain_job({*status, mpirun_words.text(), plan.num_ranks, requests.first()}, logs, monitor);
      end_ranks_of_other_hosts(plan, options, monitor, reaper, result);
      return result;
    }
    requests.take([](int) {});
    // said again until the job ends: a rank may start only now
    const auto now = std::chrono::steady_clock::now();
    if (requests.first() != 0 && now >= next_reminder) {
      ask_ranks_to_stop(child, monitor, plan.has_remote_hosts);
      next_reminder = now + kReminderInterval;
    }
    const auto fault = overseer.find_fault();
    if (!fault && !requests.must_kill()) continue;
    kill_job(child, plan, options);
    logs.finish();
    LaunchResult result = fault ? lost(*fault) : interrupted();
    if (fault && fault->rank > 0 && fault->rank < plan.num_ranks) result.tail = logs.tail(fault->rank).text();
    end_ranks_of_other_hosts(plan, options, monitor, reaper, result);
    return result;
  }
}

}  // namespace

LaunchResult supervise(const LaunchPlan& plan, const SupervisorOptions& options, process::SignalListener& signals) {
  StopRequests requests(signals);
  // mpirun may end, or be killed, before its ranks
  process::JobReaper reaper;
  LaunchResult result =
      plan.uses_mpi() ? supervise_ranks(plan, options, requests, reaper) : supervise_one(plan, options, requests);
  result.was_asked_to_stop = requests.first() != 0;
  const std::vector<process::ProcessId> left = reaper.end_all(options.kill_grace, kLongestEnd);
  if (!left.empty()) {
    result.has_survivors = true;
    if (result.exit_code == 0) result.exit_code = static_cast<int>(ErrorKind::kCommunication);
    result.reason += concat(result.reason.empty() ? "" : "; ", "process ", left.front().pid,
                            " of the job does not end, though it was killed: it waits in the system, for a device or a "
                            "file (see ps and dmesg)");
  }
  return result;
}

}  // namespace dsft::launch

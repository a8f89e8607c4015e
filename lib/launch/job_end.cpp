#include "launch/job_end.h"

#include <signal.h>

#include <regex>
#include <sstream>

#include "base/error.h"

namespace dsft::launch {
namespace {

using process::ExitStatus;

bool is_contract_code(int code) {
  return (code >= 0 && code <= 6) || code == 75 || code == 130;
}

bool is_crash(int signal) {
  return signal == SIGSEGV || signal == SIGABRT || signal == SIGBUS || signal == SIGFPE || signal == SIGILL;
}

bool is_stop_request(int signal) {
  return signal == SIGTERM || signal == SIGINT || signal == SIGUSR1 || signal == SIGHUP;
}

/// What a signal that nobody asked for means.
LaunchResult explain_death(const std::string& what, int signal, bool is_alone) {
  if (is_crash(signal)) {
    // peers see a rank lost; a process alone is the bug itself
    const ErrorKind kind = is_alone ? ErrorKind::kInternal : ErrorKind::kCommunication;
    return {static_cast<int>(kind), what + ": a bug in dsft or a library; please report it with `dsft env`"};
  }
  const std::string hint =
      signal == SIGKILL ? "; where nobody killed it, the machine ran out of memory (see dmesg)" : "";
  return {static_cast<int>(ErrorKind::kCommunication), what + hint};
}

/// The rank that failed first, as mpirun's last words tell; -1 where they do not.
int failing_rank(const std::string& words) {
  static const std::regex kForms(
      R"(Process name: \[(?:\[\d+,\d+\]|[^\],]*),(\d+)\]|MPI_ABORT was invoked on rank (\d+)|noticed that process rank (\d+) )");
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

constexpr ExitStatus kCannotStart{127, 0};  // of the shell and the dynamic loader

/// Whether MPI itself has ended a rank, whose peer was gone: the trainer has no such codes.
bool is_mpi_code(ExitStatus status) {
  return status.signal == 0 && status.exit_code <= 128 && !is_contract_code(status.exit_code) && status != kCannotStart;
}

}  // namespace

LaunchResult interrupted() {
  return {static_cast<int>(ErrorKind::kInterrupted), "interrupted before the run could save"};
}

std::string find_ssh_fault(const std::string& words) {
  // OpenSSH's clients; the host stands in the first or the second place
  static const std::regex kForms(
      R"(^ssh: (?:Could not resolve hostname|connect to host) ([^\s:]+).*|^(\S+): Permission denied \(.*|^Host key verification failed.*)");
  std::istringstream lines(words);
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    std::smatch match;
    if (!std::regex_match(line, match, kForms)) continue;
    const std::string host = match[1].matched ? match[1].str() : match[2].str();
    return concat(host.empty() ? "a host" : "host " + host, " could not be reached by ssh (", line,
                  "); every host must be reached without a password: scripts/cluster/hostfile_launch.sh checks that");
  }
  return "";
}

LaunchResult explain_process(const std::string& who, ExitStatus status, int stop_signal) {
  if (status.signal == 0 && status.exit_code > 128 && !is_contract_code(status.exit_code)) {
    status = {0, status.exit_code - 128};
  }
  if (status == ExitStatus{}) return {};
  if (status == ExitStatus{static_cast<int>(ErrorKind::kStopped), 0}) {
    return {status.exit_code,
            "stopped after saving; the same command with training.resume_from_checkpoint=true goes on"};
  }
  const std::string name = who.empty() ? "the trainer" : who;
  if (status == kCannotStart)
    return {static_cast<int>(ErrorKind::kUsage),
            concat(name, " could not be started: a program or a shared library is missing there (127)")};
  const std::string what = name + " " + status.describe();
  if (status.signal == 0) return {is_contract_code(status.exit_code) ? status.exit_code : 1, what};
  if (stop_signal == 0 || !is_stop_request(status.signal)) return explain_death(what, status.signal, who.empty());
  // stopped before the trainer had its own handlers: nothing was begun, nothing is lost
  if (stop_signal == SIGINT) return interrupted();
  return {static_cast<int>(ErrorKind::kStopped), what + " before the run began"};
}

LaunchResult explain_job(const JobEnd& end, const RankLogs& logs, const HeartMonitor& monitor) {
  if (end.status == ExitStatus{}) return {};
  int rank = failing_rank(end.mpirun_words);
  // mpirun does not always come to name it
  if (rank < 0 || rank >= end.num_ranks) rank = rank_with_error(logs, end.num_ranks);
  if (const auto loss = monitor.first_loss(); rank < 0 && loss) rank = loss->rank;
  const std::string who = rank < 0 ? "a rank" : concat("rank ", rank);
  LaunchResult result = explain_process(who, end.status, end.stop_signal);
  if (is_mpi_code(end.status))
    result = {static_cast<int>(ErrorKind::kCommunication),
              concat(who, " was lost, and MPI ended the others with code ", end.status.exit_code)};
  if (result.exit_code == static_cast<int>(ErrorKind::kStopped)) return result;
  if (rank > 0) result.tail = logs.tail(rank).text();
  const std::string did = rank < 0 ? "" : monitor.last_words(rank);
  if (result.exit_code == static_cast<int>(ErrorKind::kCommunication) && !did.empty())
    result.reason += "; it was in " + did;
  if (rank >= 0 || end.stop_signal != 0) return result;
  for (int other = 1; other < end.num_ranks; ++other) {
    if (!logs.tail(other).is_empty()) result.tail += concat("rank ", other, ":\n", logs.tail(other).text());
  }
  if (end.mpirun_words.find("Primary job") != std::string::npos) return result;
  // no rank has run: what mpirun says is the reason
  result.tail += end.mpirun_words;
  if (const std::string fault = find_ssh_fault(end.mpirun_words); !fault.empty()) {
    result.exit_code = static_cast<int>(ErrorKind::kCommunication);
    result.reason = fault;
    return result;
  }
  if (result.exit_code == 1) result.exit_code = static_cast<int>(ErrorKind::kCommunication);
  result.reason = "mpirun " + end.status.describe();
  return result;
}

}  // namespace dsft::launch

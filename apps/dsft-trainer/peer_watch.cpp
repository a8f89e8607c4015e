#include "dsft-trainer/peer_watch.h"

#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "comm/small_collectives.h"

namespace dsft::apps {
namespace {

constexpr std::chrono::milliseconds kBetweenLooks{200};

// Rank 1 hears only whether rank 0 lives; what rank 0 does, rank 0 judges itself.
launch::HeartLimits limits_of_silence_alone() {
  const launch::HeartLimits::Seconds never(1e12);
  launch::HeartLimits limits;
  limits.start = limits.phase = limits.least_step = limits.first_step = never;
  return limits;
}

// Processes with equal words know each other by their numbers: the same system, the same namespace of processes.
std::string own_machine() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  std::error_code error;
  const std::filesystem::path space = std::filesystem::read_symlink("/proc/self/ns/pid", error);
  if (boot.empty() || error) return concat("unknown ", ::getpid());
  return boot + " " + space.string();
}

std::vector<pid_t> processes_of_this_machine(comm::Communicator& communicator) {
  const std::string machine = own_machine();
  std::vector<pid_t> processes;
  for (int rank = 0; rank < communicator.size(); ++rank) {
    const std::string told = comm::broadcast_bytes(communicator, concat(::getpid(), " ", machine), rank);
    pid_t process = 0;
    const auto [end, error] = std::from_chars(told.data(), told.data() + told.size(), process);
    const bool is_here = error == std::errc() && std::string_view(end, told.data() + told.size()) == " " + machine;
    processes.push_back(is_here ? process : 0);
  }
  return processes;
}

}  // namespace

int count_ranks_of_this_machine(comm::Communicator& communicator) {
  const std::string machine = own_machine();
  int count = 0;
  for (int rank = 0; rank < communicator.size(); ++rank)
    if (comm::broadcast_bytes(communicator, machine, rank) == machine) ++count;
  return count;
}

PeerWatch::PeerWatch(comm::Communicator& communicator)
    : rank_(communicator.rank()), processes_(processes_of_this_machine(communicator)) {
  DSFT_CHECK(communicator.size() > 1, "a rank alone has nobody to watch over it");
  if (rank_ == 0)
    monitor_ = std::make_unique<launch::HeartMonitor>(communicator.size(), "", /*has_remote_hosts=*/true,
                                                      launch::HeartLimits());
  if (rank_ == 1)
    monitor_ = std::make_unique<launch::HeartMonitor>(1, "", /*has_remote_hosts=*/true, limits_of_silence_alone());
  const std::string own = monitor_ ? monitor_->address() : "";
  address_ = comm::broadcast_bytes(communicator, own, 0);
  const std::string second = comm::broadcast_bytes(communicator, own, 1);
  if (rank_ == 0) {
    second_heart_ = std::make_unique<watchdog::Heart>(second.c_str(), rank_);
    second_heart_->enter(watchdog::PhaseKind::kLong, "what it did it alone knew");
  }
  if (monitor_) thread_ = std::thread([this] { watch(); });
}

PeerWatch::~PeerWatch() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void PeerWatch::watch() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kBetweenLooks, [this] { return is_over_; }))
    if (const auto verdict = monitor_->verdict()) end_job(*verdict);
}

void PeerWatch::end_job(const launch::Verdict& verdict) const {
  std::fprintf(stderr, "error (rank %d): %s\n", rank_, verdict.reason.c_str());
  const pid_t process = processes_[static_cast<size_t>(verdict.rank)];
  if (process > 0 && verdict.rank != rank_) ::kill(process, SIGKILL);
  std::_Exit(static_cast<int>(ErrorKind::kCommunication));
}

}  // namespace dsft::apps

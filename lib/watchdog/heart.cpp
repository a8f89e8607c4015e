#include "watchdog/heart.h"

#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "watchdog/address.h"

namespace dsft::watchdog {
namespace {

constexpr std::chrono::milliseconds kBetweenBeats{500}, kLeastBetweenBeats{50};
constexpr std::chrono::seconds kOrphanGrace{10};
constexpr int kConnectMilliseconds = 5000;
constexpr size_t kKeptSteps = 64;

/// Connects, or gives -1 and sets errno.
int connect_to(const sockaddr* address, socklen_t size) {
  const int descriptor = ::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return -1;
  int error = ::connect(descriptor, address, size) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    pollfd polled{descriptor, POLLOUT, 0};
    error = ETIMEDOUT;
    socklen_t error_size = sizeof error;
    if (::poll(&polled, 1, kConnectMilliseconds) > 0) {
      ::getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &error_size);
    }
  }
  if (error == 0) return descriptor;
  ::close(descriptor);
  errno = error;
  return -1;
}

int connect_to_path(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  DSFT_CHECK(path.size() < sizeof address.sun_path, "the socket's path is too long: ", path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return connect_to(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

int connect_to_port(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
    errno = EINVAL;
    return -1;
  }
  const int descriptor = connect_to(found->ai_addr, found->ai_addrlen);
  const int error = errno;
  ::freeaddrinfo(found);
  errno = error;
  return descriptor;
}

int connect_to(const Address& address) {
  if (!address.path.empty()) {
    const int descriptor = connect_to_path(address.path);
    if (descriptor < 0) {
      fail(ErrorKind::kCommunication, "the launcher does not answer at ", address.path, ": ", std::strerror(errno),
           "; where no `dsft launch` runs, unset ", kAddressVariable);
    }
    return descriptor;
  }
  std::string tried;
  for (const std::string& host : address.hosts) {
    const int descriptor = connect_to_port(host, address.port);
    if (descriptor >= 0) return descriptor;
    tried += concat(tried.empty() ? "" : ", ", host, ": ", std::strerror(errno));
  }
  fail(ErrorKind::kCommunication, "the launcher does not answer at its port ", address.port, " (", tried,
       "); every host must be able to connect to the one where `dsft launch` runs");
}

void block_all_signals() {
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

std::string Heart::Call::text() const {
  if (name == nullptr) return "";
  return concat(name, " #", number, subject.empty() ? "" : " of ", subject);
}

Heart::Heart(const char* address, int rank) : rank_(rank) {
  if (address == nullptr || *address == '\0') return;
  const Address parsed = parse_address(address);
  socket_ = connect_to(parsed);
  send(parsed.token + "\n");
  thread_ = std::thread([this] {
    block_all_signals();
    beat_until_over();
  });
}

Heart::~Heart() {
  if (!is_watched()) return;
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  wake_.notify_all();
  thread_.join();
  send(concat(kFarewell, "\n"));
  ::close(socket_);
}

void Heart::begin_phase(PhaseKind kind, const char* name, int64_t step) {
  const std::lock_guard lock(mutex_);
  const bool is_same_step = kind == PhaseKind::kStep && kind_ == kind && step_ == step;
  if (!is_same_step) {
    const Clock::time_point now = Clock::now();
    if (kind_ == PhaseKind::kStep) timed_seconds_ += std::chrono::duration<double>(now - phase_begin_).count();
    if (kind == PhaseKind::kStep && step != timed_step_) {
      if (timed_step_ > 0) step_seconds_.push_back(timed_seconds_);
      if (step_seconds_.size() > kKeptSteps) step_seconds_.pop_front();
      timed_step_ = step;
      timed_seconds_ = 0;
    }
    phase_begin_ = now;
  }
  kind_ = kind;
  phase_ = name;
  step_ = step;
  has_new_phase_ = true;
  wake_.notify_one();
}

void Heart::restart_phase() {
  const std::lock_guard lock(mutex_);
  phase_begin_ = Clock::now();
}

void Heart::note_call(Call& call, const char* name, int64_t number, std::string_view subject) {
  const std::lock_guard lock(mutex_);
  call.name = name;
  call.number = number;
  call.subject = subject;
}

Beat Heart::current() const {
  Beat beat;
  beat.rank = rank_;
  beat.kind = kind_;
  beat.phase_seconds = std::chrono::duration<double>(Clock::now() - phase_begin_).count();
  if (!step_seconds_.empty()) {
    std::vector<double> sorted(step_seconds_.begin(), step_seconds_.end());
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    beat.median_step_seconds = *middle;
  }
  beat.phase = step_ > 0 ? concat("step ", step_, ": ", phase_) : std::string(phase_);
  beat.call = call_.text();
  beat.last_call = last_call_.text();
  return beat;
}

void Heart::beat_until_over() {
  std::unique_lock lock(mutex_);
  while (!is_over_) {
    const std::string line = to_line(current()) + "\n";
    lock.unlock();
    send(line);
    listen();
    lock.lock();
    wake_.wait_for(lock, kLeastBetweenBeats, [this] { return is_over_; });
    wake_.wait_for(lock, kBetweenBeats, [this] { return is_over_ || has_new_phase_; });
    has_new_phase_ = false;
  }
}

/// A launcher that does not read costs beats, not time.
void Heart::send(std::string_view line) {
  const auto push = [this](std::string_view bytes) {
    const ssize_t count = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return static_cast<size_t>(std::max<ssize_t>(count, 0));
  };
  if (!unsent_.empty()) unsent_.erase(0, push(unsent_));
  if (!unsent_.empty()) return;
  const size_t sent = push(line);
  if (sent > 0) unsent_ = line.substr(sent);
}

void Heart::listen() {
  char buffer[256];
  ssize_t count = 0;
  while ((count = ::recv(socket_, buffer, sizeof buffer, MSG_DONTWAIT)) > 0) heard_.append(buffer, count);
  const bool is_gone = count == 0 || (count < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
  for (size_t end = heard_.find('\n'); end != std::string::npos; end = heard_.find('\n')) {
    const std::string_view word = std::string_view(heard_).substr(0, end);
    if (word == kStop) ::kill(::getpid(), SIGUSR1);
    if (word == kEnd) end_process("the job is over");
    heard_.erase(0, end + 1);
  }
  if (!is_gone) return;
  const Clock::time_point now = Clock::now();
  if (launcher_gone_at_ == Clock::time_point{}) launcher_gone_at_ = now;
  if (now - launcher_gone_at_ >= kOrphanGrace) end_process("the launcher is gone");
}

void Heart::end_process(const char* reason) const {
  std::fprintf(stderr, "error (rank %d): %s; this rank ends too\n", rank_, reason);
  std::_Exit(static_cast<int>(ErrorKind::kCommunication));
}

}  // namespace dsft::watchdog

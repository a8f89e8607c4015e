#include "process/child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "process/line_splitter.h"
#include "process/process_tree.h"

extern char** environ;

namespace dsft::process {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPollInterval{10};

std::vector<std::string> merge_environment(const ChildOptions& options) {
  const auto& changes = options.environment;
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::string_view name = text.substr(0, text.find('='));
    const bool is_replaced =
        std::any_of(changes.begin(), changes.end(), [&](const auto& c) { return c.first == name; });
    if (!is_replaced && !(options.drops_variable && options.drops_variable(name))) merged.emplace_back(text);
  }
  for (const auto& [name, value] : changes) merged.push_back(name + "=" + value);
  return merged;
}

std::vector<char*> to_pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::pair<int, rlimit>> bounded_limits(const Isolation& isolation) {
  std::vector<std::pair<int, rlimit>> limits;
  for (const auto& [resource, wanted] : isolation.limits) {
    rlimit own{};
    ::getrlimit(static_cast<__rlimit_resource_t>(resource), &own);
    const rlim_t value = std::min<rlim_t>(wanted, own.rlim_max);
    limits.emplace_back(resource, rlimit{value, value});
  }
  return limits;
}

/// Everything that the child needs between fork and exec, made before the fork.
struct Start {
  char* const* argv;
  char* const* environment;
  int input;  ///< -1: nothing to read
  int output;
  int errors;
  int error_pipe;
  int parent_death_signal;
  pid_t parent;
  bool is_isolated;
  std::vector<std::pair<int, rlimit>> limits;
};

/// What is done between fork and exec, so only calls that are safe there.
void isolate(const Start& start) {
  ::setsid();
  for (const auto& [resource, limit] : start.limits) ::setrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
  const int score = ::open("/proc/self/oom_score_adj", O_WRONLY);
  [[maybe_unused]] const ssize_t written = score < 0 ? 0 : ::write(score, "1000", 4);
  if (score >= 0) ::close(score);
}

/// What the child does between fork and exec: only calls that are safe there. Reports errno through `error_pipe`.
[[noreturn]] void become_program(const Start& start) {
  if (start.is_isolated) {
    isolate(start);
  } else {
    ::setpgid(0, 0);
  }
  ::prctl(PR_SET_PDEATHSIG, start.parent_death_signal);
  if (::getppid() != start.parent) ::_exit(127);  // the parent ended before its death could be signalled
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  const int input = start.input >= 0 ? start.input : ::open("/dev/null", O_RDONLY);
  if (input >= 0) ::dup2(input, STDIN_FILENO);
  if (start.output >= 0) ::dup2(start.output, STDOUT_FILENO);
  if (start.errors >= 0) ::dup2(start.errors, STDERR_FILENO);
#ifdef SYS_close_range
  constexpr unsigned kCloseOnExec = 1U << 2;  // CLOSE_RANGE_CLOEXEC, Linux 5.11; before it, files opened with O_CLOEXEC
  if (start.is_isolated) ::syscall(SYS_close_range, 3U, ~0U, kCloseOnExec);
#endif
  ::execvpe(start.argv[0], start.argv, start.environment);
  const int error = errno;
  [[maybe_unused]] const ssize_t written = ::write(start.error_pipe, &error, sizeof error);
  ::_exit(127);
}

/// While it lives, a write to a pipe that nobody reads is an error of this thread and no signal.
class NoBrokenPipeSignal {
 public:
  NoBrokenPipeSignal() {
    sigemptyset(&broken_pipe_);
    sigaddset(&broken_pipe_, SIGPIPE);
    sigset_t pending;
    ::sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) != 0;
    ::pthread_sigmask(SIG_BLOCK, &broken_pipe_, &previous_);
  }
  ~NoBrokenPipeSignal() {
    const timespec at_once{};
    if (!was_pending_) ::sigtimedwait(&broken_pipe_, nullptr, &at_once);
    ::pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
  }
  NoBrokenPipeSignal(const NoBrokenPipeSignal&) = delete;
  NoBrokenPipeSignal& operator=(const NoBrokenPipeSignal&) = delete;

 private:
  sigset_t broken_pipe_;
  sigset_t previous_;
  bool was_pending_ = false;
};

}  // namespace

struct Child::Pipe {
  FileDescriptor reader;
  std::function<void(std::string_view bytes)> on_bytes;  ///< instead of lines
  LineSplitter splitter;

  /// Reads what is there; false at the end of the stream.
  bool read_some() {
    char buffer[64 << 10];
    const ssize_t count = ::read(reader.get(), buffer, sizeof buffer);
    if (count > 0) {
      const std::string_view bytes(buffer, static_cast<size_t>(count));
      on_bytes ? on_bytes(bytes) : splitter.add(bytes);
    }
    return count > 0 || (count < 0 && (errno == EINTR || errno == EAGAIN));
  }
};

std::string ExitStatus::describe() const {
  if (signal == 0) return concat("ended with code ", exit_code);
  return concat("was killed by signal ", signal, " (", ::strsignal(signal), ")");
}

Child::Child(ChildOptions options) {
  start(options);
}

Child::~Child() {
  if (!status_) kill_tree(milliseconds(0));
}

void Child::start(const ChildOptions& options) {
  DSFT_CHECK(!options.argv.empty(), "a child without a program");
  std::vector<std::string> arguments = options.argv, environment = merge_environment(options);
  const std::vector<char*> argv = to_pointers(arguments), environment_pointers = to_pointers(environment);
  PipeEnds start_report = open_pipe();
  FileDescriptor writers[2], input;
  if (options.has_input) {
    PipeEnds ends = open_pipe();
    input = std::move(ends.reader);
    input_ = std::move(ends.writer);
    ::fcntl(input_.get(), F_SETFL, O_NONBLOCK);
  }
  if (options.on_line || options.on_bytes) {
    for (const Stream stream : {Stream::kStdout, Stream::kStderr}) {
      PipeEnds ends = open_pipe();
      writers[static_cast<int>(stream)] = std::move(ends.writer);
      std::unique_ptr<Pipe> pipe(
          new Pipe{std::move(ends.reader), {}, LineSplitter([on_line = options.on_line, stream](std::string_view line) {
                     on_line(stream, line);
                   })});
      if (options.on_bytes) {
        pipe->on_bytes = [on_bytes = options.on_bytes, stream](std::string_view bytes) { on_bytes(stream, bytes); };
      }
      pipes_.push_back(std::move(pipe));
    }
  }
  Start start{argv.data(),
              environment_pointers.data(),
              input.get(),
              writers[0].get(),
              writers[1].get(),
              start_report.writer.get(),
              options.parent_death_signal,
              ::getpid(),
              options.isolation.has_value(),
              options.isolation ? bounded_limits(*options.isolation) : std::vector<std::pair<int, rlimit>>{}};
  pid_ = ::fork();
  if (pid_ < 0) fail(ErrorKind::kInternal, "cannot start ", options.argv[0], ": ", std::strerror(errno));
  if (pid_ == 0) become_program(start);
  // also here: whoever of the two comes first; the leader of a group could not begin a session
  if (!options.isolation) ::setpgid(pid_, pid_);
  start_report.writer.close();
  int error = 0;
  if (::read(start_report.reader.get(), &error, sizeof error) == sizeof error) {
    while (!reap()) std::this_thread::sleep_for(kPollInterval);
    fail(ErrorKind::kUsage, "cannot run ", options.argv[0], ": ", std::strerror(error));
  }
}

bool Child::reap() {
  if (status_) return true;
  int status = 0;
  const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
  if (ended == pid_) {
    status_ = WIFSIGNALED(status) ? ExitStatus{0, WTERMSIG(status)} : ExitStatus{WEXITSTATUS(status), 0};
  }
  return status_.has_value();
}

void Child::read_output(milliseconds timeout) {
  std::vector<pollfd> polled;
  for (const auto& pipe : pipes_) polled.push_back({pipe->reader.get(), POLLIN, 0});
  if (::poll(polled.data(), polled.size(), static_cast<int>(timeout.count())) <= 0) return;
  take_output(polled);
}

void Child::take_output(const std::vector<pollfd>& polled) {
  for (size_t i = pipes_.size(); i-- > 0;) {
    if (polled[i].revents == 0 || pipes_[i]->read_some()) continue;
    pipes_[i]->splitter.finish();
    pipes_.erase(pipes_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

size_t Child::exchange(std::string_view input, milliseconds timeout) {
  std::vector<pollfd> polled;
  for (const auto& pipe : pipes_) polled.push_back({pipe->reader.get(), POLLIN, 0});
  const bool writes = !input.empty() && input_.get() >= 0;
  if (writes) polled.push_back({input_.get(), POLLOUT, 0});
  if (::poll(polled.data(), polled.size(), static_cast<int>(timeout.count())) <= 0) return 0;
  size_t num_written = 0;
  if (writes && polled.back().revents != 0) {
    const NoBrokenPipeSignal guard;
    const ssize_t count = ::write(input_.get(), input.data(), input.size());
    if (count > 0) num_written = static_cast<size_t>(count);
    if (count < 0 && errno == EPIPE) input_.close();
  }
  take_output(polled);
  return num_written;
}

std::optional<ExitStatus> Child::wait_for(milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  // output may stay open in a grandchild that outlives the child: it gets a moment, not for ever
  std::optional<Clock::time_point> drain_deadline;
  while (true) {
    if (reap() && !drain_deadline) drain_deadline = Clock::now() + milliseconds(500);
    if (status_ && (pipes_.empty() || Clock::now() >= *drain_deadline)) return status_;
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    if (left.count() <= 0 && !status_) return std::nullopt;
    read_output(status_ ? kPollInterval : std::clamp(left, milliseconds(1), kPollInterval));
  }
}

ExitStatus Child::wait() {
  while (true) {
    if (const auto status = wait_for(std::chrono::hours(1))) return *status;
  }
}

void Child::send_signal(int signal) {
  if (!reap()) ::kill(pid_, signal);
}

ExitStatus Child::kill_tree(milliseconds grace) {
  // the tree is noted before anything ends: orphans could not be found any more
  std::vector<ProcessId> tree = find_descendants(pid_);
  if (!reap()) {
    if (grace.count() > 0) ::kill(-pid_, SIGTERM);
    if (grace.count() > 0) process::send_signal(tree, SIGTERM);
  }
  const auto deadline = Clock::now() + grace;
  const auto any_runs = [&] { return std::any_of(tree.begin(), tree.end(), is_running); };
  while (Clock::now() < deadline && (!wait_for(kPollInterval) || any_runs())) {
  }
  if (!reap()) {
    const std::vector<ProcessId> grown = find_descendants(pid_);
    tree.insert(tree.end(), grown.begin(), grown.end());
    ::kill(-pid_, SIGKILL);
  }
  process::send_signal(tree, SIGKILL);
  return wait();
}

}  // namespace dsft::process

#include "process/child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "process/file_descriptor.h"
#include "process/line_splitter.h"
#include "process/process_tree.h"

extern char** environ;

namespace dsft::process {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPollInterval{10};

std::vector<std::string> merge_environment(const std::vector<std::pair<std::string, std::string>>& changes) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::string_view name = text.substr(0, text.find('='));
    const bool is_replaced =
        std::any_of(changes.begin(), changes.end(), [&](const auto& c) { return c.first == name; });
    if (!is_replaced) merged.emplace_back(text);
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

/// What the child does between fork and exec: only calls that are safe there. Reports errno through `error_pipe`.
[[noreturn]] void become_program(char* const* argv, char* const* environment, int output, int errors, int error_pipe,
                                 int parent_death_signal, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, parent_death_signal);
  if (::getppid() != parent) ::_exit(127);  // the parent ended before its death could be signalled
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  const int nothing = ::open("/dev/null", O_RDONLY);
  if (nothing >= 0) ::dup2(nothing, STDIN_FILENO);
  if (output >= 0) ::dup2(output, STDOUT_FILENO);
  if (errors >= 0) ::dup2(errors, STDERR_FILENO);
  ::execvpe(argv[0], argv, environment);
  const int error = errno;
  [[maybe_unused]] const ssize_t written = ::write(error_pipe, &error, sizeof error);
  ::_exit(127);
}

}  // namespace

struct Child::Pipe {
  FileDescriptor reader;
  LineSplitter splitter;

  /// Reads what is there; false at the end of the stream.
  bool read_some() {
    char buffer[16 << 10];
    const ssize_t count = ::read(reader.get(), buffer, sizeof buffer);
    if (count > 0) splitter.add({buffer, static_cast<size_t>(count)});
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
  std::vector<std::string> arguments = options.argv, environment = merge_environment(options.environment);
  const std::vector<char*> argv = to_pointers(arguments), environment_pointers = to_pointers(environment);
  PipeEnds start_report = open_pipe();
  FileDescriptor writers[2];
  if (options.on_line) {
    for (const Stream stream : {Stream::kStdout, Stream::kStderr}) {
      PipeEnds ends = open_pipe();
      writers[static_cast<int>(stream)] = std::move(ends.writer);
      pipes_.push_back(std::unique_ptr<Pipe>(new Pipe{
          std::move(ends.reader),
          LineSplitter([on_line = options.on_line, stream](std::string_view line) { on_line(stream, line); })}));
    }
  }
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) fail(ErrorKind::kInternal, "cannot start ", options.argv[0], ": ", std::strerror(errno));
  if (pid_ == 0) {
    become_program(argv.data(), environment_pointers.data(), writers[0].get(), writers[1].get(),
                   start_report.writer.get(), options.parent_death_signal, parent);
  }
  ::setpgid(pid_, pid_);  // also here: whoever of the two comes first
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
  for (size_t i = polled.size(); i-- > 0;) {
    if (polled[i].revents == 0 || pipes_[i]->read_some()) continue;
    pipes_[i]->splitter.finish();
    pipes_.erase(pipes_.begin() + static_cast<std::ptrdiff_t>(i));
  }
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

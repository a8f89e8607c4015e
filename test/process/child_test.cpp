#include "process/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/stopwatch.h"
#include "catch_amalgamated.hpp"
#include "process/line_splitter.h"
#include "process/output_tail.h"
#include "process/process_tree.h"
#include "process/signal_listener.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using namespace std::chrono_literals;
using process::Child;
using process::ExitStatus;
using process::Stream;

namespace {

process::ChildOptions shell(const std::string& script) {
  return {.argv = {"sh", "-c", script}, .environment = {}};
}

struct Collected {
  std::vector<std::string> out;
  std::vector<std::string> err;
};

process::ChildOptions collecting_shell(const std::string& script, Collected& collected) {
  process::ChildOptions options = shell(script);
  options.on_line = [&](Stream stream, std::string_view line) {
    (stream == Stream::kStdout ? collected.out : collected.err).emplace_back(line);
  };
  return options;
}

bool has_no_children() {
  return ::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD;
}

}  // namespace

TEST_CASE("A child's exit code and its killing signal arrive", "[process]") {
  REQUIRE(Child(shell("exit 0")).wait() == ExitStatus{0, 0});
  REQUIRE(Child(shell("exit 75")).wait() == ExitStatus{75, 0});
  const ExitStatus killed = Child(shell("kill -9 $$")).wait();
  REQUIRE(killed == ExitStatus{0, SIGKILL});
  REQUIRE(killed.describe() == "was killed by signal 9 (Killed)");
  REQUIRE(has_no_children());
}

TEST_CASE("A program that cannot be run is a clear error and leaves no zombie", "[process]") {
  test::require_error(ErrorKind::kUsage, {"cannot run no-such-program-42", "No such file"},
                      [] { Child child({.argv = {"no-such-program-42"}, .environment = {}}); });
  test::require_error(ErrorKind::kUsage, {"cannot run /etc/passwd", "Permission denied"},
                      [] { Child child({.argv = {"/etc/passwd"}, .environment = {}}); });
  REQUIRE(has_no_children());
}

TEST_CASE("Both streams arrive line by line, the last line without newline too", "[process]") {
  Collected collected;
  Child child(collecting_shell("echo one; echo two >&2; printf 'th'; sleep 0.05; printf 'ree'", collected));
  REQUIRE(child.wait() == ExitStatus{0, 0});
  REQUIRE(collected.out == std::vector<std::string>{"one", "three"});
  REQUIRE(collected.err == std::vector<std::string>{"two"});
}

TEST_CASE("A megabyte of output arrives whole", "[process]") {
  Collected collected;
  Child child(collecting_shell("seq 1 150000", collected));
  REQUIRE(child.wait() == ExitStatus{0, 0});
  REQUIRE(collected.out.size() == 150000);
  REQUIRE(collected.out.back() == "150000");
}

TEST_CASE("The environment is the caller's with changes, and standard input is empty", "[process]") {
  ::setenv("DSFT_TEST_KEPT", "kept", 1);
  ::setenv("DSFT_TEST_CHANGED", "old", 1);
  Collected collected;
  auto options = collecting_shell("echo $DSFT_TEST_KEPT $DSFT_TEST_CHANGED $DSFT_TEST_NEW; cat", collected);
  options.environment = {{"DSFT_TEST_CHANGED", "changed"}, {"DSFT_TEST_NEW", "new"}};
  REQUIRE(Child(options).wait() == ExitStatus{0, 0});
  REQUIRE(collected.out == std::vector<std::string>{"kept changed new"});
}

TEST_CASE("A deadline passes without an end", "[process]") {
  Child child(shell("exec sleep 30"));
  Stopwatch stopwatch;
  REQUIRE_FALSE(child.wait_for(60ms));
  REQUIRE(stopwatch.seconds() < 5);
  child.send_signal(SIGTERM);
  REQUIRE(child.wait() == ExitStatus{0, SIGTERM});
}

TEST_CASE("Killing a tree reaches grandchildren in process groups of their own that ignore SIGTERM", "[process]") {
  test::TempDir folder;
  const std::string pid_file = (folder.path() / "pid").string();
  Child child(shell("setsid sh -c 'trap \"\" TERM; echo $$ > " + pid_file + ".new; mv " + pid_file + ".new " +
                    pid_file + "; while :; do sleep 0.05; done' & wait"));
  pid_t grandchild = 0;
  while (grandchild == 0) {
    std::this_thread::sleep_for(5ms);
    std::ifstream(pid_file) >> grandchild;
  }
  const auto tree = process::find_descendants(child.pid());
  REQUIRE_FALSE(tree.empty());
  REQUIRE(child.kill_tree(200ms).signal != 0);
  for (int i = 0; i < 100 && ::kill(grandchild, 0) == 0; ++i) std::this_thread::sleep_for(10ms);
  for (const auto& process : tree) REQUIRE_FALSE(process::is_running(process));
}

TEST_CASE("A tree that obeys SIGTERM is not waited for longer than needed", "[process]") {
  Child child(shell("trap 'exit 9' TERM; sleep 30 & wait"));
  std::this_thread::sleep_for(100ms);
  Stopwatch stopwatch;
  REQUIRE(child.kill_tree(20s) == ExitStatus{9, 0});
  REQUIRE(stopwatch.seconds() < 10);
}

TEST_CASE("A child dies with the object that owns it", "[process]") {
  process::ProcessId id;
  {
    Child child(shell("sleep 30"));
    id = process::find_descendants(::getpid()).front();
    REQUIRE(process::is_running(id));
  }
  REQUIRE_FALSE(process::is_running(id));
  REQUIRE(has_no_children());
}

TEST_CASE("A child gets a signal when its parent is killed", "[process]") {
  test::TempDir folder;
  const std::string pid_file = (folder.path() / "pid").string();
  const pid_t parent = ::fork();
  if (parent == 0) {
    Child child({.argv = {"sh", "-c",
                          "echo $$ > " + pid_file + ".new; mv " + pid_file + ".new " + pid_file + "; exec sleep 30"},
                 .environment = {},
                 .parent_death_signal = SIGKILL});
    ::pause();
  }
  pid_t grandchild = 0;
  while (grandchild == 0) {
    std::this_thread::sleep_for(5ms);
    std::ifstream(pid_file) >> grandchild;
  }
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  const auto runs = [&] {
    std::ifstream stat("/proc/" + std::to_string(grandchild) + "/stat");
    std::string text;
    return static_cast<bool>(std::getline(stat, text)) && text.find(") Z ") == std::string::npos;
  };
  for (int i = 0; i < 200 && runs(); ++i) std::this_thread::sleep_for(10ms);
  REQUIRE_FALSE(runs());
}

TEST_CASE("Children are found without grandchildren, with the environment that they were started with", "[process]") {
  process::ChildOptions options = shell("sleep 5 & sleep 5 & wait");
  options.environment = {{"DSFT_TEST_MARK", "1"}};
  Child child(std::move(options));
  std::vector<process::ProcessId> sleeps;
  for (int i = 0; i < 400 && sleeps.size() < 2; ++i) {
    std::this_thread::sleep_for(5ms);
    sleeps = process::find_children(child.pid());
  }
  REQUIRE(sleeps.size() == 2);
  const auto own = process::find_children(::getpid());
  REQUIRE(std::any_of(own.begin(), own.end(), [&](const auto& id) { return id.pid == child.pid(); }));
  REQUIRE(std::none_of(own.begin(), own.end(), [&](const auto& id) { return id == sleeps[0]; }));
  REQUIRE(process::environment_variable(sleeps[0], "DSFT_TEST_MARK"));
  REQUIRE_FALSE(process::environment_variable(sleeps[0], "DSFT_TEST_MAR"));
  child.kill_tree(100ms);
}

TEST_CASE("A listener takes signals in the order of their arrival, and children do not inherit its mask", "[process]") {
  process::SignalListener listener({SIGUSR1, SIGINT});
  REQUIRE_FALSE(listener.next());
  ::raise(SIGINT);
  REQUIRE(listener.next() == SIGINT);
  ::raise(SIGUSR1);
  REQUIRE(listener.next() == SIGUSR1);
  REQUIRE_FALSE(listener.next());
  REQUIRE(Child(shell("kill -USR1 $$; sleep 5")).wait() == ExitStatus{0, SIGUSR1});
}

TEST_CASE("A listener hears signals that the caller ignored, and leaves them ignored", "[process]") {
  ::signal(SIGUSR2, SIG_IGN);
  {
    process::SignalListener listener({SIGUSR2});
    ::raise(SIGUSR2);
    REQUIRE(listener.next() == SIGUSR2);
  }
  REQUIRE(::signal(SIGUSR2, SIG_DFL) == SIG_IGN);
}

TEST_CASE("Lines are cut from pieces, and endless ones are handed on in parts", "[process]") {
  std::vector<std::string> lines;
  process::LineSplitter splitter([&](std::string_view line) { lines.emplace_back(line); });
  splitter.add("a\nb");
  splitter.add("c\n\nd");
  REQUIRE(lines == std::vector<std::string>{"a", "bc", ""});
  splitter.finish();
  REQUIRE(lines.back() == "d");
  splitter.add(std::string(70000, 'x'));
  REQUIRE(lines.back().size() == 70000);
}

TEST_CASE("A tail keeps the last lines only", "[process]") {
  process::OutputTail tail(2);
  REQUIRE(tail.is_empty());
  for (const char* line : {"one", "two", "three"}) tail.add(line);
  REQUIRE(tail.text() == "two\nthree\n");
}

namespace {

/// Everything that a child with input writes until it ends, while `input` is given to it.
std::string converse(process::ChildOptions options, std::string_view input) {
  std::string output;
  options.has_input = true;
  options.on_bytes = [&](Stream stream, std::string_view bytes) {
    if (stream == Stream::kStdout) output += bytes;
  };
  Child child(std::move(options));
  while (!child.wait_for(0ms)) {
    input.remove_prefix(child.exchange(input, 20ms));
    if (input.empty()) child.close_input();
  }
  return output;
}

}  // namespace

TEST_CASE("A child reads what it is sent while its output is taken, also more than pipes hold", "[process]") {
  std::string text(3 << 20, 'x');
  text[1 << 20] = '\n';
  REQUIRE(converse({.argv = {"cat"}}, text) == text);
}

TEST_CASE("Writing to a child that has closed its input neither kills nor blocks the writer", "[process]") {
  REQUIRE(converse({.argv = {"sh", "-c", "exec 0<&-; echo done"}}, std::string(1 << 20, 'x')) == "done\n");
}

TEST_CASE(
    "An isolated child has its own session, its limits, no open file of the caller, and dropped variables are gone",
    "[process]") {
  const test::TempDir folder;
  const auto open_file = folder.write("open", "");
  const int descriptor = ::open(open_file.c_str(), O_RDONLY);  // without O_CLOEXEC
  REQUIRE(descriptor >= 0);
  ::setenv("DSFT_TEST_DROPPED", "1", 1);
  ::setenv("DSFT_TEST_KEPT", "1", 1);
  const std::string output =
      converse({.argv = {"sh", "-c",
                         "cat /proc/self/oom_score_adj; cut -d' ' -f6 /proc/$$/stat; echo $$; ulimit -n; ls -l "
                         "/proc/$$/fd | grep -c open; echo $DSFT_TEST_DROPPED$DSFT_TEST_KEPT; true"},
                .drops_variable = [](std::string_view name) { return name == "DSFT_TEST_DROPPED"; },
                .isolation = process::Isolation{{{RLIMIT_NOFILE, 77}}}},
               "");
  ::close(descriptor);
  std::istringstream words(output);
  std::string score, session, pid, limit, num_open, variables;
  words >> score >> session >> pid >> limit >> num_open >> variables;
  INFO(output);
  CHECK(score == "1000");
  CHECK(session == pid);
  CHECK(limit == "77");
  CHECK(num_open == "0");
  CHECK(variables == "1");
}

TEST_CASE("Processes of a session, and those that left it but keep a variable, are found", "[process]") {
  Child child({.argv = {"sh", "-c", "sleep 30 & setsid sleep 30 & sleep 30"},
               .environment = {{"DSFT_TEST_MARK", "a7"}},
               .isolation = process::Isolation{}});
  const auto count = [&] { return process::find_with_variable("DSFT_TEST_MARK", "a7").size(); };
  for (int i = 0; i < 200 && (count() < 4 || process::find_session(child.pid()).size() != 3); ++i)
    std::this_thread::sleep_for(10ms);
  CHECK(count() == 4);
  CHECK(process::find_session(child.pid()).size() == 3);
  CHECK(process::count_machine_threads() > 4);
  child.kill_tree(0ms);
  for (int i = 0; i < 200 && count() > 0; ++i) std::this_thread::sleep_for(10ms);
  CHECK(count() == 0);
}

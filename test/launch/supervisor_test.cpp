#include "launch/supervisor.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "catch_amalgamated.hpp"
#include "support/temp_dir.h"
#include "support/under_mpirun.h"

using namespace dsft;
using launch::LaunchResult;

namespace {

/// Runs a shell script in the place of dsft-trainer.
struct Run {
  LaunchResult result;
  std::string out, err;
};

/// Sends signals to this process when the script says "ready" (its first line).
Run run_script(const std::string& script, int num_ranks, std::vector<int> signals_when_ready = {},
               const std::filesystem::path& log_dir = {}) {
  Run run;
  const auto on_line = [&](process::Stream stream, std::string_view line) {
    (stream == process::Stream::kStdout ? run.out : run.err).append(line) += "\n";
    if (line != "ready") return;
    for (int signal : signals_when_ready) ::kill(::getpid(), signal);
    signals_when_ready.clear();
  };
  const launch::LaunchPlan plan = test::plan_of({"sh", "-c", script}, num_ranks);
  process::SignalListener listener({SIGINT, SIGTERM, SIGHUP});
  run.result = launch::supervise(
      plan, {.log_dir = log_dir, .on_line = on_line, .kill_grace = std::chrono::milliseconds(300)}, listener);
  return run;
}

/// The files below a folder, sorted.
std::vector<std::string> list_files(const std::filesystem::path& folder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (!entry.is_directory()) files.push_back(std::filesystem::relative(entry.path(), folder).string());
  std::sort(files.begin(), files.end());
  return files;
}

const std::string kRank = "r=$OMPI_COMM_WORLD_RANK; ";

}  // namespace

TEST_CASE("A single process's code arrives, and a killed one gives 6", "[launch]") {
  REQUIRE(run_script("exit 0", 1).result.exit_code == 0);
  for (int code : {1, 2, 3, 4, 5, 6, 75}) {
    REQUIRE(run_script("exit " + std::to_string(code), 1).result.exit_code == code);
  }
  const LaunchResult killed = run_script("kill -9 $$", 1).result;
  REQUIRE(killed.exit_code == 6);
  REQUIRE(killed.reason.find("signal 9 (Killed)") != std::string::npos);
  REQUIRE(killed.reason.find("out of memory") != std::string::npos);
}

TEST_CASE("A single process that crashes is a bug, a rank that does is lost", "[launch]") {
  for (const char* signal : {"SEGV", "ABRT", "BUS"}) {
    const LaunchResult crashed = run_script(std::string("ulimit -c 0; kill -") + signal + " $$", 1).result;
    CHECK(crashed.exit_code == 1);
    CHECK(crashed.reason.find("bug") != std::string::npos);
  }
  CHECK(run_script(kRank + "ulimit -c 0; if [ $r = 1 ]; then kill -SEGV $$; fi; exec sleep 20", 2).result.exit_code ==
        6);
}

TEST_CASE("A process that is killed after it was asked to stop has saved nothing", "[launch]") {
  test::TempDir folder;
  const auto script = "trap 'kill -9 $$' TERM; echo ready; while :; do sleep 0.02; done";
  REQUIRE(run_script(script, 1, {SIGTERM}, folder.path()).result.exit_code == 6);
}

TEST_CASE("A rank's own error message names it where mpirun does not", "[launch]") {
  const Run run =
      run_script(kRank + "if [ $r = 1 ]; then echo 'error (rank 1): broken here' >&2; exit 5; fi; exec sleep 20", 2);
  REQUIRE(run.result.exit_code == 5);
  REQUIRE(run.result.tail.find("broken here") != std::string::npos);
}

TEST_CASE("A single process's output goes to the log folder and on", "[launch]") {
  test::TempDir folder;
  const Run run = run_script("echo to stdout; echo to stderr >&2", 1, {}, folder.path() / "logs");
  REQUIRE(run.out == "to stdout\n");
  REQUIRE(run.err == "to stderr\n");
  CHECK(list_files(folder.path() / "logs") == std::vector<std::string>{"rank.0/stderr", "rank.0/stdout"});
  CHECK(test::read_file(folder.path() / "logs/rank.0/stdout") == "to stdout\n");
  CHECK(test::read_file(folder.path() / "logs/rank.0/stderr") == "to stderr\n");
}

TEST_CASE("The first signal is passed on, and the trainer's 75 comes back", "[launch]") {
  test::TempDir folder;
  const std::string script = "trap 'exit 75' TERM INT HUP; echo ready; while :; do sleep 0.02; done";
  REQUIRE(run_script(script, 1, {SIGTERM}, folder.path()).result.exit_code == 75);
  REQUIRE(run_script(script, 1, {SIGINT}, folder.path()).result.exit_code == 75);
  REQUIRE(run_script(script, 1, {SIGHUP}, folder.path()).result.exit_code == 75);
}

TEST_CASE("A second Ctrl-C kills a trainer that does not stop", "[launch]") {
  test::TempDir folder;
  // the second comes later: two that wait at once are one
  std::thread second;
  std::atomic<bool> is_ready = false;
  const auto script = "trap '' TERM INT; echo ready; while :; do sleep 0.02; done";
  process::SignalListener block({SIGINT});  // before the thread, which must not take the signal either
  second = std::thread([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    ::kill(::getpid(), SIGINT);
  });
  const Run run = run_script(script, 1, {SIGINT}, folder.path());
  second.join();
  REQUIRE(run.result.exit_code == 130);
}

TEST_CASE("A signal before the trainer handles it ends with 75 or 130", "[launch]") {
  test::TempDir folder;
  REQUIRE(run_script("echo ready; exec sleep 20", 1, {SIGTERM}, folder.path()).result.exit_code == 75);
  REQUIRE(run_script("echo ready; exec sleep 20", 1, {SIGHUP}, folder.path()).result.exit_code == 75);
  REQUIRE(run_script("echo ready; exec sleep 20", 1, {SIGINT}, folder.path()).result.exit_code == 130);
}

TEST_CASE("Under mpirun rank 0 is seen, warnings of the others too, and all is in the log folder", "[launch]") {
  test::TempDir folder;
  const Run run =
      run_script(kRank + "echo out $r; echo err $r >&2; echo \"warning (rank $r): w\" >&2", 2, {}, folder.path());
  REQUIRE(run.result.exit_code == 0);
  REQUIRE(run.out == "out 0\n");
  REQUIRE(run.err.find("err 0\n") != std::string::npos);
  REQUIRE(run.err.find("err 1\n") == std::string::npos);
  REQUIRE(run.err.find("warning (rank 1): w\n") != std::string::npos);
  CHECK(list_files(folder.path()) ==
        std::vector<std::string>{"rank.0/stderr", "rank.0/stdout", "rank.1/stderr", "rank.1/stdout"});
  CHECK(test::read_file(folder.path() / "rank.1/stdout") == "out 1\n");
  CHECK_THAT(test::read_file(folder.path() / "rank.1/stderr"), Catch::Matchers::ContainsSubstring("err 1\n"));
}

TEST_CASE("The code and the last lines of the rank that failed first arrive", "[launch]") {
  for (int code : {3, 4}) {
    const Run run = run_script(
        kRank + "if [ $r = 1 ]; then echo error: broken here >&2; exit " + std::to_string(code) + "; fi; exec sleep 20",
        2);
    REQUIRE(run.result.exit_code == code);
    INFO("tail: " << run.result.tail);
    REQUIRE(run.result.reason == "rank 1 ended with code " + std::to_string(code));
    REQUIRE(run.result.tail == "error: broken here\n");
    REQUIRE(run.err.find("broken") == std::string::npos);
  }
}

TEST_CASE("A rank that is killed gives 6, and its number where mpirun tells it", "[launch]") {
  const Run run = run_script(kRank + "if [ $r = 1 ]; then kill -9 $$; fi; exec sleep 20", 2);
  REQUIRE(run.result.exit_code == 6);
  // Open MPI 4.1's mpirun forgets its message in some runs
  REQUIRE_THAT(run.result.reason, Catch::Matchers::StartsWith("rank 1 was killed by signal 9") ||
                                      Catch::Matchers::StartsWith("a rank was killed by signal 9"));
}

TEST_CASE("A job that mpirun cannot start gives its words and 6", "[launch]") {
  launch::LaunchPlan plan{.argv = {"mpirun", "--no-such-option", "-n", "2", "true"}, .num_ranks = 2};
  process::SignalListener listener({SIGINT, SIGTERM});
  const LaunchResult result =
      launch::supervise(plan, {.log_dir = {}, .on_line = [](process::Stream, std::string_view) {}}, listener);
  REQUIRE(result.exit_code == 6);
  REQUIRE(result.tail.find("no-such-option") != std::string::npos);
}

TEST_CASE("Ranks get the first signal as SIGUSR1 and end with 75", "[launch]") {
  const Run run = run_script("trap 'exit 75' USR1; echo ready; while :; do sleep 0.02; done", 2, {SIGTERM});
  REQUIRE(run.result.exit_code == 75);
  REQUIRE(run.result.tail.empty());
}

TEST_CASE("A rank that listens only later is asked again", "[launch]") {
  test::TempDir folder;  // a signal before both ignore it would end the other
  const std::string here = folder.path().string();
  const auto script =
      kRank + "trap '' USR1 INT; : > " + here + "/$r; while [ ! -e " + here + "/0 ] || [ ! -e " + here +
      "/1 ]; do sleep 0.02; done; echo ready; sleep 1.2; trap 'exit 75' USR1; while :; do sleep 0.02; done";
  REQUIRE(run_script(script, 2, {SIGINT}).result.exit_code == 75);
}

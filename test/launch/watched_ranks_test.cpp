// Ranks that die, stop or hang, as the launcher sees them.
#include <signal.h>
#include <unistd.h>

#include <chrono>

#include "catch_amalgamated.hpp"
#include "launch/restarts.h"
#include "process/process_tree.h"
#include "support/temp_dir.h"
#include "support/under_mpirun.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;
using launch::HeartLimits;
using launch::LaunchResult;

namespace {

struct WatchedRun {
  LaunchResult result;
  std::string err;
  double seconds = 0;
};

WatchedRun run_ranks(const std::string& how, int num_ranks, const HeartLimits& limits) {
  WatchedRun run;
  const auto plan = test::plan_of({std::string(DSFT_BIN_DIR) + "/rank_with_heart", how}, num_ranks);
  process::SignalListener listener({SIGINT, SIGTERM});
  const auto begin = std::chrono::steady_clock::now();
  run.result =
      launch::supervise(plan,
                        {.log_dir = {},
                         .on_line = [&](process::Stream, std::string_view line) { run.err.append(line) += "\n"; },
                         .kill_grace = std::chrono::milliseconds(300),
                         .limits = limits},
                        listener);
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  CHECK(process::find_descendants(::getpid()).empty());  // no orphan, no zombie
  return run;
}

constexpr HeartLimits::Seconds kShort{2};

watchdog::Beat beat_of(int rank, double seconds, const std::string& call = "") {
  return {.rank = rank,
          .kind = watchdog::PhaseKind::kStep,
          .phase_seconds = seconds,
          .median_step_seconds = 1,
          .phase = "step 7: forward",
          .call = call,
          .last_call = "all-reduce #8 of w"};
}

}  // namespace

TEST_CASE("Ranks that end by themselves are not missed", "[launch]") {
  CHECK(run_ranks("finish", 1, {}).result.exit_code == 0);
  CHECK(run_ranks("finish", 2, {}).result.exit_code == 0);
  CHECK(run_ranks("fail", 2, {}).result.exit_code == 3);
}

TEST_CASE("A rank that dies is named with what it did", "[launch]") {
  const WatchedRun run = run_ranks("die", 3, {});
  CHECK(run.result.exit_code == 6);
  CHECK_THAT(run.result.reason, StartsWith("rank 2 was killed by signal 9"));
  CHECK_THAT(run.result.reason, ContainsSubstring("step 5: backward, after all-reduce #5 of layers.0.weight"));
  CHECK(run.result.tail == "about to die\n");
  CHECK(run.seconds < 10);
}

TEST_CASE("Ranks whose mpirun is killed do not outlive it", "[launch]") {
  // they do not listen to SIGTERM, and hold on to nothing of mpirun's
  const std::string script =
      "trap '' TERM HUP; exec >/dev/null 2>&1; if [ $OMPI_COMM_WORLD_RANK = 0 ]; then sleep 0.5; kill -9 $PPID; fi; "
      "setsid sleep 60 & sleep 60";
  process::SignalListener listener({SIGINT, SIGTERM});
  const auto begin = std::chrono::steady_clock::now();
  const LaunchResult result = launch::supervise(test::plan_of({"sh", "-c", script}, 2),
                                                {.log_dir = {},
                                                 .on_line = [](process::Stream, std::string_view) {},
                                                 .kill_grace = std::chrono::milliseconds(300)},
                                                listener);
  CHECK(result.exit_code == 6);
  CHECK_THAT(result.reason, StartsWith("mpirun was killed by signal 9"));
  CHECK_FALSE(result.has_survivors);
  CHECK(process::find_descendants(::getpid()).empty());
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(8));
}

TEST_CASE("Ranks of other hosts whose mpirun dies are ended, or said to be left", "[launch]") {
  const std::string how = GENERATE("hang", "stop");
  test::TempDir folder;
  const std::string in = folder.path().string(), rank = std::string(DSFT_BIN_DIR) + "/rank_with_heart";
  // stands for the other host, of whose processes the launcher knows nothing: it was there before
  process::Child other(
      {.argv = {"sh", "-c",
                "cd \"$FOLDER\"; until [ -s address ]; do sleep 0.05; done; export DSFT_WATCHDOG=$(cat address); "
                "exec " +
                    rank + " " + how + " 2> words"},
       .environment = {{"FOLDER", in}, {"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}}});
  launch::LaunchPlan plan = test::plan_of({"true"}, 2);
  plan.has_remote_hosts = true;
  plan.argv = {
      "sh", "-c",
      "cd \"$0\"; echo $DSFT_WATCHDOG > address; until [ -s words ]; do sleep 0.05; done; sleep 1.5; kill -9 $$", in};
  process::SignalListener listener({SIGINT, SIGTERM});
  const auto begin = std::chrono::steady_clock::now();
  const LaunchResult result = launch::supervise(plan,
                                                {.log_dir = {},
                                                 .on_line = [](process::Stream, std::string_view) {},
                                                 .kill_grace = std::chrono::milliseconds(300)},
                                                listener);
  INFO(result.reason);
  CHECK(result.exit_code == 6);
  CHECK_THAT(result.reason, ContainsSubstring("mpirun was killed by signal 9"));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(12));
  CHECK(result.has_survivors == (how == "stop"));
  if (how == "stop") {
    CHECK_THAT(result.reason, ContainsSubstring("rank 1 has not ended, though it was told to"));
  } else {
    const auto status = other.wait_for(std::chrono::milliseconds(500));
    REQUIRE(status);
    CHECK(status->exit_code == 6);
  }
}

TEST_CASE("A restart begins when nothing of the attempt before it runs any more", "[launch]") {
  test::TempDir folder;
  // each attempt notes what of the attempts before is there, leaves a process of its own, and fails
  const std::string script =
      "for pid in $(cat $1/pids 2>/dev/null); do kill -0 $pid 2>/dev/null && echo $pid >> $1/alive; done; "
      "(trap '' TERM; exec setsid sleep 60) >/dev/null 2>&1 & echo $! >> $1/pids; exit 6";
  process::SignalListener listener({SIGINT, SIGTERM});
  const LaunchResult result = launch::supervise_with_restarts(
      [&](bool) {
        return test::plan_of({"sh", "-c", script, "sh", folder.path().string()}, 1);
      },
      {.log_dir = {},
       .on_line = [](process::Stream, std::string_view) {},
       .kill_grace = std::chrono::milliseconds(100)},
      {.max_restarts = 2, .output_dir = folder.path(), .on_restart = [](const std::string&) {}}, listener);
  CHECK(result.exit_code == 6);
  CHECK(std::filesystem::exists(folder.path() / "pids"));
  CHECK_FALSE(std::filesystem::exists(folder.path() / "alive"));
  CHECK(process::find_descendants(::getpid()).empty());
}

TEST_CASE("A rank that is stopped ends the job", "[launch]") {
  for (const int num_ranks : {1, 2}) {
    const WatchedRun run = run_ranks("stop", num_ranks, {.silence = kShort});
    CHECK(run.result.exit_code == 6);
    CHECK_THAT(run.result.reason, StartsWith("rank " + std::to_string(num_ranks - 1) + " is lost"));
    CHECK(run.seconds < 8);
  }
}

TEST_CASE("A rank that is stopped before it beats is seen too", "[launch]") {
  const WatchedRun run = run_ranks("stop before", 2, {.silence = kShort});
  CHECK(run.result.exit_code == 6);
  CHECK_THAT(run.result.reason, StartsWith("rank 1 is lost: it was stopped (SIGSTOP)"));
  CHECK(run.seconds < 8);
}

TEST_CASE("A rank that hangs in an update ends the job at the step's limit", "[launch]") {
  for (const int num_ranks : {1, 3}) {
    const WatchedRun run = run_ranks("hang", num_ranks, {.step = kShort});
    CHECK(run.result.exit_code == 6);
    CHECK_THAT(run.result.reason,
               StartsWith("rank " + std::to_string(num_ranks - 1) +
                          " hangs: step 5: backward, after all-reduce #5 of layers.0.weight, for 2 s (limit 2 s; "
                          "--step-timeout sets another)"));
    if (num_ranks > 1) {
      CHECK_THAT(run.result.reason,
                 ContainsSubstring("; rank 0, 1: step 5: backward, waiting in all-reduce #5 of layers.0.weight"));
      CHECK(run.result.tail == "about to hang\n");
    }
    CHECK(run.seconds < 8);
  }
}

TEST_CASE("Phases outside of updates have a limit of their own", "[launch]") {
  // the update's limit is passed by nobody: rank 0 waits in an update all the same
  const WatchedRun run = run_ranks("load", 1, {.phase = kShort, .step = {}});
  CHECK(run.result.exit_code == 6);
  CHECK_THAT(run.result.reason, StartsWith("rank 0 hangs: evaluating, after all-reduce #5"));
}

TEST_CASE("A phase within the first update leaves the first update's limit as it is", "[launch]") {
  // sampling of a policy's completions: what went before it in the update is no update of its own
  const WatchedRun run = run_ranks("sample", 1, {.least_step = HeartLimits::Seconds{0.5}});
  INFO(run.result.reason);
  CHECK(run.result.exit_code == 0);
}

TEST_CASE("A rank that never beats is missed", "[launch]") {
  process::SignalListener listener({SIGINT, SIGTERM});
  const LaunchResult result = launch::supervise(test::plan_of({"sleep", "60"}, 2),
                                                {.log_dir = {},
                                                 .on_line = [](process::Stream, std::string_view) {},
                                                 .kill_grace = std::chrono::milliseconds(300),
                                                 .limits = {.start = kShort}},
                                                listener);
  CHECK(result.exit_code == 6);
  CHECK(result.reason == "rank 0 has not begun within 2 s");
}

TEST_CASE("The rank to blame for a hang is the one that nobody keeps waiting", "[launch]") {
  const HeartLimits limits;
  CHECK_FALSE(launch::find_hang({beat_of(0, 59, "barrier #9"), beat_of(1, 59)}, limits));
  CHECK(launch::find_hang({beat_of(0, 61, "barrier #9"), beat_of(1, 61), beat_of(2, 61, "barrier #9")}, limits)->rank ==
        1);
  // all wait, for different ones: the one that is behind
  CHECK(launch::find_hang({beat_of(0, 61, "barrier #9"), beat_of(1, 61, "all-reduce #8 of w")}, limits)->rank == 1);
  CHECK_FALSE(launch::find_hang({}, limits));
  // none waits in a call, as where a host waits for its GPU: the one whose last call is the earliest
  watchdog::Beat ahead = beat_of(0, 61), behind = beat_of(1, 61);
  ahead.last_call = "all-reduce #9 of w";
  CHECK(launch::find_hang({ahead, behind}, limits)->rank == 1);
  ahead.last_call = "NCCL all-reduce #9 of w";  // counted apart: that says nothing
  CHECK(launch::find_hang({ahead, behind}, limits)->rank == 0);
}

TEST_CASE("The limit of an update follows the median of those before, but for a written one", "[launch]") {
  HeartLimits limits;
  watchdog::Beat beat = beat_of(0, 0);
  CHECK(limits.of(beat).count() == 60);
  beat.median_step_seconds = 10;
  CHECK(limits.of(beat).count() == 200);
  beat.median_step_seconds = 0;
  CHECK(limits.of(beat).count() == 600);
  limits.step = HeartLimits::Seconds(7);
  CHECK(limits.of(beat).count() == 7);
  beat.kind = watchdog::PhaseKind::kLong;
  CHECK(limits.of(beat).count() == 3600);
  limits.step = HeartLimits::Seconds(7200);
  CHECK(limits.of(beat).count() == 7200);
}

TEST_CASE("A job is started again after a lost rank, from a checkpoint of its own alone", "[launch]") {
  test::TempDir folder;
  const auto run = [&](const std::string& script, int max_restarts) {
    std::string starts, lines;
    const auto make_plan = [&](bool resumes) {
      starts += resumes ? 'r' : 'n';
      return test::plan_of({"sh", "-c", script, "sh", folder.path().string(), std::to_string(starts.size())}, 1);
    };
    process::SignalListener listener({SIGINT, SIGTERM});
    const LaunchResult result =
        launch::supervise_with_restarts(make_plan, {.log_dir = {}, .on_line = [](process::Stream, std::string_view) {}},
                                        {.max_restarts = max_restarts,
                                         .output_dir = folder.path(),
                                         .on_restart = [&](const std::string& line) { lines += line + "\n"; }},
                                        listener);
    return std::tuple(result.exit_code, starts, lines);
  };
  folder.write("checkpoint-9/dsft_state/manifest.json", "of an earlier run");
  const std::string saves = "mkdir -p $1/checkpoint-$2.tmp $1/checkpoint-$2/dsft_state; ";
  const std::string manifest = "echo {} > $1/checkpoint-$2/dsft_state/manifest.json; ";

  CHECK(std::get<1>(run("exit 6", 0)) == "n");
  const auto [code, starts, lines] = run("exit 6", 2);
  CHECK(code == 6);
  CHECK(starts == "nnn");
  CHECK_THAT(lines, ContainsSubstring("Restart 2 of 2, from the beginning: it had saved none"));
  CHECK(std::get<1>(run(saves + "exit 5", 1)) == "nn");  // an unfinished one
  CHECK(std::get<1>(run(saves + manifest + "if [ $2 = 2 ]; then exit 0; fi; kill -9 $$", 3)) == "nr");
  for (const int other : {2, 3, 4, 75, 130}) CHECK(std::get<1>(run("exit " + std::to_string(other), 3)) == "n");
  CHECK(std::get<1>(run("exit 1", 1)) == "nn");
}

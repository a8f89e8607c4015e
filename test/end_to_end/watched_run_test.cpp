// Ranks of real runs that die, stop or hang, and runs that go on by themselves.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "catch_amalgamated.hpp"
#include "end_to_end/run_dsft.h"
#include "process/process_tree.h"

using namespace dsft;
namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr const char* kSections =
    "lora: {r: 8, lora_alpha: 16, lora_dropout: 0.05}\n"
    "training: {max_steps: 400, per_device_train_batch_size: 2, learning_rate: 1.0e-4, save_steps: 10, "
    "report_to: [none]}\n";

struct WatchedRun {
  int exit_code = 0;
  std::string err;
  double seconds_after_fault = 0;
};

/// The trainer of a rank below a process.
process::ProcessId find_rank(pid_t launcher, const std::string& rank) {
  for (const process::ProcessId& process : process::find_descendants(launcher))
    if (process::environment_variable(process, "OMPI_COMM_WORLD_RANK") == rank) return process;
  throw std::runtime_error("there is no rank " + rank);
}

/// Runs `dsft launch` with two ranks; calls `fault(launcher)` once when a line holds `when`.
WatchedRun launch_ranks(std::vector<std::string> arguments, const test::TempDir& folder, const std::string& when,
                        const std::function<void(pid_t)>& fault,
                        std::vector<std::pair<std::string, std::string>> environment = {}) {
  WatchedRun run;
  process::ChildOptions options;
  options.argv = {std::string(DSFT_BIN_DIR) + "/dsft", "launch", "--num-procs", "2"};
  options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
  options.environment = std::move(environment);
  options.environment.insert(
      options.environment.end(),
      {{"DSFT_CACHE", (folder / "cache").string()}, {"OMP_NUM_THREADS", "1"}, {"CUDA_VISIBLE_DEVICES", ""}});
  std::unique_ptr<process::Child> child;
  bool is_done = false;
  std::chrono::steady_clock::time_point at;
  options.on_line = [&](process::Stream, std::string_view line) {
    (run.err += line) += "\n";
    if (is_done || !child || line.find(when) == std::string_view::npos) return;
    is_done = true;
    fault(child->pid());
    at = std::chrono::steady_clock::now();
  };
  child = std::make_unique<process::Child>(std::move(options));
  run.exit_code = child->wait().exit_code;
  run.seconds_after_fault = std::chrono::duration<double>(std::chrono::steady_clock::now() - at).count();
  INFO(run.err);
  CHECK(is_done);
  CHECK(process::find_descendants(::getpid()).empty());
  return run;
}

std::vector<double> curve_of(const fs::path& output_dir) {
  std::vector<double> losses;
  for (const auto& line : test::read_lines(output_dir / "metrics.jsonl"))
    if (line.contains("loss")) losses.push_back(line["loss"].get<double>());
  return losses;
}

}  // namespace

TEST_CASE("A rank that is killed ends the run at once, with its number and what it did", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, kSections);
  const WatchedRun run = launch_ranks({recipe.string()}, folder, "step 1/", [](pid_t launcher) {
    process::send_signal({find_rank(launcher, "1")}, SIGKILL);
  });
  INFO(run.err);
  CHECK(run.exit_code == 6);
  CHECK(run.seconds_after_fault < 10);
  CHECK_THAT(run.err, ContainsSubstring("dsft launch: rank 1 was killed by signal 9"));
  CHECK_THAT(run.err, ContainsSubstring("; it was in "));
}

TEST_CASE("A rank that is killed before the first update ends the run at once, whichever it is", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, kSections);
  const std::string rank = GENERATE("0", "1");
  const WatchedRun run = launch_ranks({recipe.string()}, folder, "plan: ", [&](pid_t launcher) {
    process::send_signal({find_rank(launcher, rank)}, SIGKILL);
  });
  INFO(run.err);
  CHECK(run.exit_code == 6);
  CHECK(run.seconds_after_fault < 10);
  CHECK_THAT(run.err, ContainsSubstring("dsft launch: rank " + rank + " was killed by signal 9"));
}

TEST_CASE("A rank that is stopped ends the run within 15 seconds", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, kSections);
  const WatchedRun run = launch_ranks({recipe.string()}, folder, "step 1/", [](pid_t launcher) {
    process::send_signal({find_rank(launcher, "1")}, SIGSTOP);
  });
  INFO(run.err);
  CHECK(run.exit_code == 6);
  CHECK(run.seconds_after_fault < 15);
  CHECK_THAT(run.err, ContainsSubstring("dsft launch: rank 1 is lost: "));
}

TEST_CASE("A job that is stopped as a whole and goes on is no hang", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, kSections);
  std::jthread pause;
  const WatchedRun run = launch_ranks({"--step-timeout", "4", recipe.string(), "training.max_steps=60"}, folder,
                                      "step 1/", [&](pid_t pid) {
                                        std::vector<pid_t> all = {pid};
                                        for (const process::ProcessId& process : process::find_descendants(pid))
                                          all.push_back(process.pid);
                                        pause = std::jthread([all] {
                                          for (const pid_t process : all) ::kill(process, SIGSTOP);
                                          std::this_thread::sleep_for(std::chrono::seconds(7));
                                          for (const pid_t process : all) ::kill(process, SIGCONT);
                                        });
                                      });
  INFO(run.err);
  CHECK(run.exit_code == 0);
  CHECK(run.seconds_after_fault > 6);
}

TEST_CASE("Ranks of torchrun or srun see one that is stopped within 20 seconds, and end it", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, kSections);
  const int stopped = GENERATE(0, 1);
  const std::string port = std::to_string(20'000 + ::getpid() % 10'000 + stopped);
  std::vector<std::string> errors(2);
  std::vector<std::unique_ptr<process::Child>> ranks(2);
  std::chrono::steady_clock::time_point at{};
  for (size_t rank = 0; rank < 2; ++rank) {
    process::ChildOptions options;
    options.argv = {std::string(DSFT_BIN_DIR) + "/dsft", "train", recipe.string()};
    options.environment = {{"DSFT_CACHE", (folder / "cache").string()},
                           {"OMP_NUM_THREADS", "1"},
                           {"CUDA_VISIBLE_DEVICES", ""},
                           {"RANK", std::to_string(rank)},
                           {"WORLD_SIZE", "2"},
                           {"LOCAL_RANK", std::to_string(rank)},
                           {"LOCAL_WORLD_SIZE", "2"},
                           {"MASTER_ADDR", "127.0.0.1"},
                           {"MASTER_PORT", port}};
    options.on_line = [&, rank](process::Stream, std::string_view line) {
      (errors[rank] += line) += "\n";
      if (at != std::chrono::steady_clock::time_point{} || line.find("step 1/") == std::string_view::npos) return;
      at = std::chrono::steady_clock::now();
      ranks[static_cast<size_t>(stopped)]->send_signal(SIGSTOP);
    };
    ranks[rank] = std::make_unique<process::Child>(std::move(options));
  }
  std::vector<std::optional<process::ExitStatus>> ends(2);
  while (!ends[0] || !ends[1]) {
    for (size_t rank = 0; rank < 2; ++rank)
      if (!ends[rank]) ends[rank] = ranks[rank]->wait_for(std::chrono::milliseconds(100));
    REQUIRE((at == std::chrono::steady_clock::time_point{} ||
             std::chrono::steady_clock::now() - at < std::chrono::seconds(20)));
  }
  const auto watching = static_cast<size_t>(1 - stopped);
  INFO(errors[watching]);
  CHECK(ends[watching] == process::ExitStatus{.exit_code = 6, .signal = 0});
  CHECK(ends[static_cast<size_t>(stopped)]->signal == SIGKILL);
  CHECK_THAT(errors[watching],
             ContainsSubstring("rank " + std::to_string(stopped) + " is lost: it has not been heard"));
}

TEST_CASE("A rank that hangs in an update ends the run at --step-timeout, and the collective is named",
          "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, kSections);
  const fs::path file = folder / "hang";
  // in a tensor that is larger than what travels between the ranks, 16 kB of each: where it hangs in a collective, both
  // wait in the same one
  const WatchedRun run = launch_ranks({"--step-timeout", "3", recipe.string(), "training.save_steps=1000", "lora.r=2"},
                                      folder, "step 1/", [&](pid_t) { folder.write("hang", ""); },
                                      {{"LD_PRELOAD", std::string(DSFT_BIN_DIR) + "/libdsft_fault_injection.so"},
                                       {"DSFT_FAULT_HANG", "1:40000:" + file.string()}});
  INFO(run.err);
  CHECK(run.exit_code == 6);
  CHECK(run.seconds_after_fault < 10);
  CHECK_THAT(run.err, ContainsSubstring("dsft launch: rank 1 hangs: step "));
  CHECK_THAT(run.err, ContainsSubstring("(limit 3 s; --step-timeout sets another)"));
  CHECK_THAT(run.err, ContainsSubstring("; rank 0: step ") && ContainsSubstring(", waiting in all-reduce #"));
}

TEST_CASE("A launcher that is killed leaves no rank behind", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, kSections);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // what it leaves comes here
  // a rank that is stopped cannot end by itself: mpirun has to see to it
  const bool is_stopped = GENERATE(false, true);
  process::ChildOptions options;
  options.argv = {std::string(DSFT_BIN_DIR) + "/dsft", "launch", "--num-procs", "2", recipe.string()};
  options.environment = {
      {"DSFT_CACHE", (folder / "cache").string()}, {"OMP_NUM_THREADS", "1"}, {"CUDA_VISIBLE_DEVICES", ""}};
  std::unique_ptr<process::Child> child;
  options.on_line = [&](process::Stream, std::string_view line) {
    if (!child || line.find("step 1/") == std::string_view::npos) return;
    if (is_stopped) process::send_signal({find_rank(child->pid(), "1")}, SIGSTOP);
    child->send_signal(SIGKILL);
  };
  child = std::make_unique<process::Child>(std::move(options));
  CHECK(child->wait().signal == SIGKILL);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  const auto any_is_left = [] {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    return !process::find_descendants(::getpid()).empty();
  };
  while (any_is_left() && std::chrono::steady_clock::now() < deadline) ::usleep(50'000);
  CHECK_FALSE(any_is_left());
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
}

TEST_CASE("A run with --max-restarts goes on to the curve of one that nothing befell", "[end_to_end][slow]") {
  test::TempDir folder;
  const auto recipe = test::make_tiny_job(folder, kSections);
  const std::string steps = "training.max_steps=60";
  const auto whole = test::run_dsft(
      {"launch", "--num-procs", "2", recipe.string(), steps, "output_dir=" + (folder / "whole").string()}, folder);
  INFO(whole.err);
  REQUIRE(whole.exit_code == 0);
  const WatchedRun run =
      launch_ranks({"--max-restarts", "2", "--log-dir", (folder / "logs").string(), recipe.string(), steps}, folder,
                   "checkpoint-20", [](pid_t launcher) { process::send_signal({find_rank(launcher, "0")}, SIGKILL); });
  INFO(run.err);
  CHECK(run.exit_code == 0);
  CHECK_THAT(run.err, ContainsSubstring("Restart 1 of 2, from the newest whole checkpoint"));
  CHECK(curve_of(folder / "run") == curve_of(folder / "whole"));
  CHECK(test::read_file(folder / "run/adapter_model.safetensors") ==
        test::read_file(folder / "whole/adapter_model.safetensors"));
  CHECK_THAT(test::read_file(folder / "logs/rank.0/stderr"), ContainsSubstring("Continuing from"));
}

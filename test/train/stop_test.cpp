// How a run answers the signals that ask it to stop.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "catch_amalgamated.hpp"
#include "support/require_error.h"
#include "train/watched_run.h"

using namespace dsft;
using namespace dsft::test;
using train::EvalStrategy;
using train::RunEnd;
using train::SaveStrategy;

TEST_CASE("A signal is answered with a state to continue from, whatever the recipe saves", "[train]") {
  TempDir output;
  const train::StopSignal stop_signal;
  Setting setting;
  setting.max_steps = 8;
  const Run whole = run_training(setting);
  const bool saves_nothing = GENERATE(true, false);
  setting.configure = [=](train::TrainingConfig& config) {
    config.save_strategy = saves_nothing ? SaveStrategy::kNo : SaveStrategy::kSteps;
    config.save_only_model = true;
    config.save_steps = 3;
  };
  setting.stop_signal = &stop_signal;
  setting.amend = [](train::Job& job) { job.observers.push_back(std::make_unique<Interrupter>(3)); };
  CHECK(run_training(setting, output.path()).end == RunEnd::kStoppedBySignal);
  setting.stop_signal = nullptr;
  setting.amend = {};
  setting.resume = true;
  const Run rest = run_training(setting, output.path());
  REQUIRE(rest.reports.size() == 5);
  CHECK(rest.reports.back().loss == whole.reports.back().loss);
}

TEST_CASE("A signal in the last update stops nothing", "[train]") {
  TempDir output;
  const train::StopSignal stop_signal;
  Setting setting;
  setting.max_steps = 3;
  setting.stop_signal = &stop_signal;
  setting.amend = [](train::Job& job) { job.observers.push_back(std::make_unique<Interrupter>(3)); };
  CHECK(run_training(setting, output.path()).end == RunEnd::kFinished);
}

TEST_CASE("A signal whose state cannot be saved ends with 4 and the reason", "[train]") {
  TempDir output;
  const train::StopSignal stop_signal;
  Setting setting;
  setting.stop_signal = &stop_signal;
  setting.amend = [](train::Job& job) {
    job.observers.push_back(std::make_unique<Interrupter>(2));
    job.weights_size_bytes = uint64_t{1} << 60;  // the file system has less
  };
  require_error(ErrorKind::kCheckpoint, {"cannot be continued", "no space for"},
                [&] { run_training(setting, output.path()); });
  CHECK(fs::exists(output / "weights.safetensors"));
}

TEST_CASE("A signal whose state cannot be saved ends with 75 where the run can go on from before", "[train]") {
  TempDir output;
  const train::StopSignal stop_signal;
  Setting setting;
  setting.max_steps = 8;
  setting.save_steps = 2;
  setting.stop_signal = &stop_signal;
  setting.amend = [](train::Job& job) {
    job.observers.push_back(std::make_unique<Interrupter>(3));
    job.save_weights = [write = job.save_weights](const fs::path& directory) {
      if (!directory.filename().string().starts_with("checkpoint-2"))
        fail(ErrorKind::kCheckpoint, "No space left on device");
      write(directory);
    };
  };
  CHECK(run_training(setting, output.path()).end == RunEnd::kStoppedBySignal);
  CHECK(saved_steps(output.path()) == Steps{2});
  setting.stop_signal = nullptr;
  setting.amend = {};
  setting.resume = true;
  CHECK(run_training(setting, output.path()).reports.front().step == 3);
}

TEST_CASE("An evaluation that a signal cuts short is made up for when the run goes on", "[train]") {
  TempDir output;
  Seen seen;
  Setting setting = setting_of(4, {3.0}, seen);
  setting.configure = [](train::TrainingConfig& config) {
    config.eval_strategy = EvalStrategy::kSteps;
    config.eval_steps = 2;
    config.save_strategy = SaveStrategy::kBest;
  };
  const auto amend = setting.amend;
  {
    const train::StopSignal stop_signal;
    setting.stop_signal = &stop_signal;
    setting.amend = [&](train::Job& job) {
      amend(job);
      job.observers.push_back(std::make_unique<Interrupter>(2));
    };
    CHECK(run_training(setting, output.path()).end == RunEnd::kStoppedBySignal);
    CHECK(seen.evaluated.empty());
  }
  setting.stop_signal = nullptr;
  setting.amend = amend;
  setting.resume = true;
  run_training(setting, output.path());
  CHECK(seen.evaluated == Steps{2, 4});
}

TEST_CASE("A terminal that is closed stops a run, unless nohup has it go on", "[train]") {
  const auto previous = ::signal(SIGHUP, SIG_DFL);
  {
    const train::StopSignal stop_signal;
    ::raise(SIGHUP);
    CHECK(stop_signal.caught() == SIGHUP);
  }
  ::signal(SIGHUP, SIG_IGN);
  {
    const train::StopSignal stop_signal;
    ::raise(SIGHUP);
    CHECK(stop_signal.caught() == 0);
  }
  ::signal(SIGHUP, previous);
}

TEST_CASE("A Ctrl-C after any stop request ends the process at once with 130", "[train]") {
  const auto status_after = [](std::initializer_list<int> signals) {
    const pid_t child = ::fork();
    if (child == 0) {
      const train::StopSignal stop_signal;
      for (const int signal : signals) ::raise(signal);
      ::_exit(stop_signal.caught());
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  CHECK(status_after({SIGTERM}) == SIGTERM);
  CHECK(status_after({SIGINT, SIGINT}) == 130);
  CHECK(status_after({SIGTERM, SIGINT}) == 130);
  CHECK(status_after({SIGUSR1, SIGINT}) == 130);
  CHECK(status_after({SIGTERM, SIGTERM}) == SIGTERM);  // a scheduler that says it twice wants a saved state
}

TEST_CASE("A signal after the run is over is ignored until the process ends", "[train]") {
  const pid_t child = ::fork();
  if (child == 0) {
    {
      train::StopSignal stop_signal;
      stop_signal.ignore_from_now();
      ::raise(SIGUSR1);
    }
    for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) ::raise(signal);
    ::_exit(7);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 7));
}

TEST_CASE("A signal before the first update ends the process as if it had no handler", "[train]") {
  const pid_t child = ::fork();
  if (child == 0) {
    const train::StopSignal stop_signal;
    ::raise(SIGTERM);
    stop_signal.end_process(stop_signal.caught());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM));
}

TEST_CASE("A run that fails after a request to stop does not die of the next request", "[train]") {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      const train::StopSignal stop_signal;
      ::raise(SIGTERM);
      fail(ErrorKind::kCheckpoint, "cannot be saved");
    } catch (const Error&) {
      ::raise(SIGUSR1);
    }
    ::_exit(4);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 4));
}

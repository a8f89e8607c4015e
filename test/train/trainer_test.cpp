// When the trainer evaluates, saves and ends: the rules of HF's Trainer (DefaultFlowCallback, EarlyStoppingCallback,
// _determine_best_metric, _save_checkpoint and rotate_checkpoints of transformers 5.17), steps worked out by hand.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "io/json.h"
#include "support/require_error.h"
#include "train/tiny_run.h"

using namespace dsft;
using namespace dsft::test;
namespace fs = std::filesystem;
using train::EvalStrategy;
using train::RunEnd;
using train::SaveStrategy;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Gives the losses of a list, one each time.
class ScriptedEvaluation final : public train::Evaluation {
 public:
  explicit ScriptedEvaluation(std::vector<double> losses) : losses_(std::move(losses)) {}
  std::string name() const override { return "loss"; }
  std::optional<std::map<std::string, double>> run(model::CausalLm&, comm::Communicator&,
                                                   const train::StopCheck& must_stop) override {
    if (must_stop()) return std::nullopt;
    const double loss = losses_[std::min(next_++, losses_.size() - 1)];
    return std::map<std::string, double>{{"eval_loss", loss}, {"num_rows", 3}, {"num_tokens", 17}};
  }

 private:
  std::vector<double> losses_;
  size_t next_ = 0;
};

struct Seen {
  std::vector<int64_t> evaluated;
  std::vector<std::map<std::string, double>> metrics;
};

class Witness final : public train::Observer {
 public:
  explicit Witness(Seen& seen) : seen_(seen) {}
  void on_evaluation(int64_t step, double, const std::map<std::string, double>& metrics) override {
    seen_.evaluated.push_back(step);
    seen_.metrics.push_back(metrics);
  }

 private:
  Seen& seen_;
};

class Interrupter final : public train::Observer {
 public:
  explicit Interrupter(int64_t step) : step_(step) {}
  void on_step(const train::StepReport& report) override {
    if (report.step == step_) ::raise(SIGTERM);
  }

 private:
  int64_t step_;
};

// 24 rows in updates of 8: three updates an epoch.
Setting setting_of(int64_t max_steps, std::vector<double> losses, Seen& seen) {
  Setting setting;
  setting.batch_size = 8;
  setting.max_steps = max_steps;
  setting.amend = [losses, &seen](train::Job& job) {
    job.evaluations.push_back(std::make_unique<ScriptedEvaluation>(losses));
    job.observers.push_back(std::make_unique<Witness>(seen));
  };
  return setting;
}

std::vector<int64_t> saved_steps(const fs::path& output_dir) {
  std::vector<int64_t> steps;
  for (const fs::path& path : checkpoint::list_checkpoints(output_dir))
    steps.push_back(*checkpoint::step_of_checkpoint(path));
  std::sort(steps.begin(), steps.end());
  return steps;
}

nlohmann::json state_of(const fs::path& output_dir, int64_t step) {
  return io::read_json_file(output_dir / concat("checkpoint-", step) / "trainer_state.json");
}

using Steps = std::vector<int64_t>;

}  // namespace

TEST_CASE("By steps, and at the last step, a run evaluates and saves", "[train]") {
  TempDir output;
  Seen seen;
  Setting setting = setting_of(7, {1.0}, seen);
  setting.configure = [](train::TrainingConfig& config) {
    config.eval_strategy = EvalStrategy::kSteps;
    config.eval_steps = 2;
    config.save_steps = 3;
    config.save_total_limit = std::nullopt;
  };
  run_training(setting, output.path());
  CHECK(seen.evaluated == Steps{2, 4, 6, 7});
  CHECK(saved_steps(output.path()) == Steps{3, 6, 7});
  CHECK(seen.metrics[0] == std::map<std::string, double>{{"eval_loss", 1.0}});  // num_tokens is another number in a log
}

TEST_CASE("By epochs, the last partial one too, a run evaluates and saves", "[train]") {
  TempDir output;
  Seen seen;
  Setting setting = setting_of(7, {1.0}, seen);
  setting.configure = [](train::TrainingConfig& config) {
    config.eval_strategy = EvalStrategy::kEpoch;
    config.save_strategy = SaveStrategy::kEpoch;
    config.save_total_limit = std::nullopt;
  };
  run_training(setting, output.path());
  CHECK(seen.evaluated == Steps{3, 6, 7});
  CHECK(saved_steps(output.path()) == Steps{3, 6, 7});
}

TEST_CASE("An evaluation at the start is shown and is not the best", "[train]") {
  TempDir output;
  Seen seen;
  Setting setting = setting_of(4, {0.5, 3.0, 2.0}, seen);
  setting.configure = [](train::TrainingConfig& config) {
    config.eval_on_start = true;
    config.eval_strategy = EvalStrategy::kSteps;
    config.eval_steps = 2;
    config.save_strategy = SaveStrategy::kBest;
    config.save_total_limit = std::nullopt;
  };
  run_training(setting, output.path());
  CHECK(seen.evaluated == Steps{0, 2, 4});
  CHECK(saved_steps(output.path()) == Steps{2, 4});
  CHECK(state_of(output.path(), 4)["best_metric"] == 2.0);
}

TEST_CASE("save_strategy best saves where the metric has become better, and NaN never is", "[train]") {
  TempDir output;
  Seen seen;
  Setting setting = setting_of(6, {kNan, 3.0, 2.0, kNan, 2.5, 1.5}, seen);
  setting.configure = [](train::TrainingConfig& config) {
    config.eval_strategy = EvalStrategy::kSteps;
    config.eval_steps = 1;
    config.save_strategy = SaveStrategy::kBest;
    config.save_total_limit = std::nullopt;
  };
  run_training(setting, output.path());
  CHECK(saved_steps(output.path()) == Steps{2, 3, 6});
}

TEST_CASE("Without a question for the best, none is kept", "[train]") {
  TempDir output;
  Seen seen;
  Setting setting = setting_of(4, {1.0}, seen);
  setting.configure = [](train::TrainingConfig& config) {
    config.eval_strategy = EvalStrategy::kSteps;
    config.eval_steps = 2;
  };
  run_training(setting, output.path());
  CHECK(state_of(output.path(), 4)["best_metric"].is_null());
}

TEST_CASE("The best weights that were saved are loaded at the end", "[train]") {
  TempDir output;
  Seen seen;
  // the best of all, at step 3, has no checkpoint: that of step 2 stays the best one, also for the rotation
  Setting setting = setting_of(8, {5.0, 2.0, 1.0, 4.0, 4.0, 4.0, 4.0, 4.0}, seen);
  setting.configure = [](train::TrainingConfig& config) {
    config.eval_strategy = EvalStrategy::kSteps;
    config.eval_steps = 1;
    config.save_steps = 2;
    config.save_total_limit = 2;
    config.load_best_model_at_end = true;
  };
  const Run run = run_training(setting, output.path());
  CHECK(saved_steps(output.path()) == Steps{2, 8});
  const auto state = state_of(output.path(), 8);
  CHECK(state["best_metric"] == 1.0);
  CHECK(state["best_global_step"] == 3);
  CHECK(state["best_model_checkpoint"] == (output / "checkpoint-2").string());
  const auto read = [&](const fs::path& path) { return read_file(path / "weights.safetensors"); };
  CHECK(read(output.path()) == read(output / "checkpoint-2"));
  CHECK(read(output.path()) != read(output / "checkpoint-8"));
}

TEST_CASE("A run without progress ends early", "[train]") {
  TempDir output;
  Seen seen;
  Setting setting = setting_of(20, {3.0, 2.0, 2.0, 2.5, 1.0}, seen);  // an equal metric is no progress
  setting.configure = [](train::TrainingConfig& config) {
    config.eval_strategy = EvalStrategy::kSteps;
    config.eval_steps = 1;
    config.early_stopping_patience = 2;
  };
  CHECK(run_training(setting, output.path()).reports.size() == 4);
  CHECK(seen.evaluated == Steps{1, 2, 3, 4});
}

TEST_CASE("Early stopping ends an epoch, which is saved, and stays the end when the run is started again", "[train]") {
  TempDir output;
  Seen seen;
  Setting setting = setting_of(20, {3.0, 2.0, 2.0, 2.5, 1.0}, seen);
  setting.configure = [](train::TrainingConfig& config) {
    config.eval_strategy = EvalStrategy::kSteps;
    config.eval_steps = 1;
    config.save_strategy = SaveStrategy::kEpoch;
    config.early_stopping_patience = 2;
  };
  run_training(setting, output.path());
  CHECK(saved_steps(output.path()) == Steps{3, 4});
  setting.resume = true;
  CHECK(run_training(setting, output.path()).reports.empty());
}

TEST_CASE("Logs come every logging_steps, and trainer_state.json has the Trainer's form", "[train]") {
  TempDir output;
  Seen seen;
  Setting setting = setting_of(7, {1.0}, seen);
  setting.configure = [](train::TrainingConfig& config) {
    config.logging_steps = 3;
    config.save_steps = 4;
  };
  run_training(setting, output.path());
  const auto state = state_of(output.path(), 7);
  Steps logged;
  for (const auto& entry : state["log_history"]) logged.push_back(entry["step"].get<int64_t>());
  CHECK(logged == Steps{3, 6, 7});
  // the fields of transformers.TrainerState
  std::vector<std::string> names;
  for (const auto& [name, value] : state.items()) names.push_back(name);
  CHECK(names == std::vector<std::string>{"best_global_step",
                                          "best_metric",
                                          "best_model_checkpoint",
                                          "epoch",
                                          "eval_steps",
                                          "global_step",
                                          "is_hyper_param_search",
                                          "is_local_process_zero",
                                          "is_world_process_zero",
                                          "log_history",
                                          "logging_steps",
                                          "max_steps",
                                          "num_input_tokens_seen",
                                          "num_train_epochs",
                                          "save_steps",
                                          "stateful_callbacks",
                                          "total_flos",
                                          "train_batch_size",
                                          "trial_name",
                                          "trial_params"});
  CHECK(state["global_step"] == 7);
  CHECK(std::abs(state["epoch"].get<double>() - 7.0 / 3) < 1e-9);
}

TEST_CASE("save_only_model leaves out what resuming needs", "[train]") {
  TempDir output;
  Seen seen;
  Setting setting = setting_of(4, {1.0}, seen);
  setting.configure = [](train::TrainingConfig& config) {
    config.save_only_model = true;
    config.save_steps = 2;
  };
  run_training(setting, output.path());
  CHECK(saved_steps(output.path()) == Steps{2, 4});
  setting.resume = true;
  require_error(ErrorKind::kCheckpoint, {"save_only_model"}, [&] { run_training(setting, output.path()); });
}

TEST_CASE("Five updates in a row that are not finite end the run with 3 and say where", "[train]") {
  TempDir output;
  Setting setting;
  setting.amend = [](train::Job& job) {
    const torch::NoGradGuard no_grad;
    model::named_parameters_of(*job.model).back().second.fill_(kNan);
  };
  require_error(ErrorKind::kData, {"5 updates in a row", "step 5"}, [&] { run_training(setting, output.path()); });
  const auto diagnostics = io::read_json_file(output / "diagnostics-0.json");
  CHECK(diagnostics["step"] == 5);
  CHECK(diagnostics["parameters_not_finite"].size() == 1);
  CHECK_FALSE(diagnostics["samples"].empty());
}

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

TEST_CASE("A checkpoint that cannot be saved does not end the run, one of which none ever could be does", "[train]") {
  TempDir output;
  Setting setting;
  setting.max_steps = 4;
  setting.save_steps = 2;
  setting.amend = [](train::Job& job) {
    job.save_weights = [write = job.save_weights](const fs::path& directory) {
      if (directory.filename().string().starts_with("checkpoint-2"))
        fail(ErrorKind::kCheckpoint, "No space left on device");
      write(directory);
    };
  };
  run_training(setting, output.path());
  CHECK(saved_steps(output.path()) == Steps{4});
  CHECK(fs::exists(output / "weights.safetensors"));

  TempDir full;
  setting.amend = [](train::Job& job) { job.weights_size_bytes = uint64_t{1} << 60; };
  require_error(ErrorKind::kCheckpoint, {"no checkpoint of it could ever be saved"},
                [&] { run_training(setting, full.path()); });
  CHECK(saved_steps(full.path()).empty());
  CHECK(fs::exists(full / "weights.safetensors"));
}

TEST_CASE("A run that starts anew keeps apart from an earlier one in the same folder", "[train]") {
  TempDir output;
  Setting setting;
  setting.max_steps = 9;
  setting.save_steps = 3;
  run_training(setting, output.path());
  REQUIRE(saved_steps(output.path()) == Steps{6, 9});
  setting.max_steps = 4;
  setting.save_steps = 2;
  setting.configure = [](train::TrainingConfig& config) { config.save_total_limit = 1; };
  run_training(setting, output.path());
  CHECK(saved_steps(output.path()) == Steps{4, 6, 9});  // the last saved is never deleted, nor what is not this run's
  setting.max_steps = 6;
  setting.resume = true;
  const Run continued = run_training(setting, output.path());
  REQUIRE(continued.reports.size() == 2);
  CHECK(continued.reports.front().step == 5);  // of the later run, though the other has a greater step
  CHECK(saved_steps(output.path()) == Steps{6, 9});
}

TEST_CASE("What a killed run left unfinished is cleared away, a user's folder is not", "[train]") {
  TempDir output;
  output.write("checkpoint-3.tmp/optimizer", "half");
  output.write("checkpoint-2.tmp-old/optimizer", "half");
  output.write("notes.tmp/a", "the user's");
  Setting setting;
  setting.max_steps = 2;
  run_training(setting, output.path());
  CHECK_FALSE(fs::exists(output / "checkpoint-3.tmp"));
  CHECK_FALSE(fs::exists(output / "checkpoint-2.tmp-old"));
  CHECK(fs::exists(output / "notes.tmp/a"));
}

TEST_CASE("A place inside an epoch of bins is none in an epoch of rows", "[train]") {
  TempDir output;
  Setting setting;
  setting.max_steps = 2;
  const auto with_packing = [](const char* value) {
    return [value](train::Job& job) { job.data_fingerprint = {{"data.packing", value}}; };
  };
  setting.amend = with_packing("false");
  run_training(setting, output.path());
  setting.resume = true;
  setting.amend = with_packing("true");
  require_error(ErrorKind::kCheckpoint, {"data.packing", "item 8"}, [&] { run_training(setting, output.path()); });
}

TEST_CASE("An observer that fails does not end a run", "[train]") {
  class Failing final : public train::Observer {
   public:
    void on_start(const train::RunPlan&) override { fail(ErrorKind::kCheckpoint, "start"); }
    void on_step(const train::StepReport&) override { throw std::runtime_error("step"); }
    void on_evaluation(int64_t, double, const std::map<std::string, double>&) override {
      fail(ErrorKind::kCheckpoint, "evaluation");
    }
    void on_message(const std::string&) override { fail(ErrorKind::kCheckpoint, "message"); }
    void on_end() override { fail(ErrorKind::kCheckpoint, "end"); }
  };
  TempDir output;
  Seen seen;
  Setting setting = setting_of(3, {1.0}, seen);
  setting.configure = [](train::TrainingConfig& config) { config.eval_on_start = true; };
  setting.amend = [amend = setting.amend](train::Job& job) {
    job.observers.push_back(std::make_unique<Failing>());
    amend(job);
  };
  CHECK(run_training(setting, output.path()).end == RunEnd::kFinished);
  CHECK(seen.evaluated == Steps{0});  // the others go on being told
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

// When the trainer evaluates, saves and ends: the rules of HF's Trainer (DefaultFlowCallback, EarlyStoppingCallback,
// _determine_best_metric, _save_checkpoint and rotate_checkpoints of transformers 5.17), steps worked out by hand.
#include <cmath>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "support/require_error.h"
#include "train/observers.h"
#include "train/watched_run.h"

using namespace dsft;
using namespace dsft::test;
using train::EvalStrategy;
using train::NumbersAreRead;
using train::RunEnd;
using train::SaveStrategy;

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
  const test::Run run = run_training(setting, output.path());
  const auto state = state_of(output.path(), 7);
  Steps logged;
  for (const auto& entry : state["log_history"]) logged.push_back(entry["step"].get<int64_t>());
  CHECK(logged == Steps{3, 6, 7});
  // the mean of the updates since the log before, as the Trainer's
  const double mean = (run.reports[3].loss + run.reports[4].loss + run.reports[5].loss) / 3;
  CHECK(state["log_history"][1]["loss"].get<double>() == Catch::Approx(mean));
  CHECK(state["log_history"][1]["grad_norm"] == run.reports[5].grad_norm);
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

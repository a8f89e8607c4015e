// When observers hear of an update: at once, or while the next one runs.
#include <chrono>
#include <cmath>
#include <functional>
#include <thread>

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

namespace {

/// Writes down what a run tells.
class Diary final : public train::Observer {
 public:
  explicit Diary(std::vector<std::string>& lines) : lines_(lines) {}
  void on_step(const train::StepReport& report) override { lines_.push_back(concat("step ", report.step)); }
  void on_evaluation(int64_t step, double, const std::map<std::string, double>&) override {
    lines_.push_back(concat("evaluation ", step));
  }
  void on_message(const std::string& line) override { lines_.push_back(line.substr(0, line.find(' '))); }
  void on_end() override { lines_.push_back("end"); }

 private:
  std::vector<std::string>& lines_;
};

std::vector<std::string> diary_of(at::Device device, std::optional<NumbersAreRead> numbers_are_read = {}) {
  Seen seen;
  Setting setting = setting_of(8, {1.0}, seen);
  setting.device = device;
  setting.numbers_are_read = numbers_are_read;
  setting.configure = [](train::TrainingConfig& config) {
    config.eval_strategy = EvalStrategy::kSteps;
    config.eval_steps = 3;
    config.save_steps = 2;
  };
  std::vector<std::string> lines;
  setting.amend = [&lines, amend = setting.amend](train::Job& job) {
    amend(job);
    job.observers.push_back(std::make_unique<Diary>(lines));
  };
  TempDir output;
  const Run run = run_training(setting, output.path());
  const auto history = state_of(output.path(), 8)["log_history"];
  lines.push_back(concat(history.size(), " logged"));
  for (const train::StepReport& report : run.reports) CHECK(report.step_seconds > 0);
  return lines;
}

}  // namespace

TEST_CASE("Steps are told before the evaluation, the checkpoint and the end that follow them", "[train]") {
  CHECK(diary_of(at::kCPU) == std::vector<std::string>{"step 1", "step 2", "Saved", "step 3", "evaluation 3", "step 4",
                                                       "Saved", "step 5", "step 6", "evaluation 6", "Saved", "step 7",
                                                       "step 8", "evaluation 8", "Saved", "end", "11 logged"});
}

TEST_CASE("A run whose numbers are read late tells the same in the same order", "[train]") {
  CHECK(diary_of(at::kCPU, NumbersAreRead::kAfterNext) == diary_of(at::kCPU));
}

TEST_CASE("On a GPU, whose numbers come late, a run tells the same in the same order", "[train][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU");
  CHECK(diary_of(at::Device(at::kCUDA, 0)) == diary_of(at::kCPU));
}

namespace {

/// Does something before it gives the batches of an update.
class WatchedSource final : public StepSource {
 public:
  WatchedSource(std::unique_ptr<StepSource> source, std::function<void(int64_t step)> before_step)
      : source_(std::move(source)), before_step_(std::move(before_step)) {}
  std::optional<std::vector<Batch>> next_step() override {
    before_step_(++step_);
    return source_->next_step();
  }
  Batch largest_micro_batch() override { return source_->largest_micro_batch(); }
  int64_t items_per_micro_batch() const override { return source_->items_per_micro_batch(); }
  std::optional<int64_t> halve_micro_batches() override { return source_->halve_micro_batches(); }
  double epoch_progress() const override { return source_->epoch_progress(); }
  int64_t steps_per_epoch() const override { return source_->steps_per_epoch(); }
  SourcePosition position() const override { return source_->position(); }
  void restore(const SourcePosition& position, int64_t num_updates) override {
    source_->restore(position, num_updates);
  }

 private:
  std::unique_ptr<StepSource> source_;
  std::function<void(int64_t)> before_step_;
  int64_t step_ = 0;
};

/// A source that fails after so many updates.
std::unique_ptr<StepSource> broken_source(std::unique_ptr<StepSource> source, int64_t num_steps) {
  return std::make_unique<WatchedSource>(std::move(source), [num_steps](int64_t step) {
    if (step > num_steps) fail(ErrorKind::kData, "the rows cannot be read");
  });
}

}  // namespace

TEST_CASE("A step's time has the wait for its own data in it, and nothing that comes between steps", "[train]") {
  static constexpr double kPause = 0.4;
  static const auto pause = [] { std::this_thread::sleep_for(std::chrono::duration<double>(kPause)); };
  class SlowWitness final : public train::Observer {
    void on_evaluation(int64_t, double, const std::map<std::string, double>&) override { pause(); }
  };
  Seen seen;
  Setting setting = setting_of(6, {1.0}, seen);
  setting.numbers_are_read = GENERATE(NumbersAreRead::kAtOnce, NumbersAreRead::kAfterNext);
  setting.configure = [](train::TrainingConfig& config) {
    config.eval_strategy = EvalStrategy::kSteps;
    config.eval_steps = 5;
  };
  setting.amend = [amend = setting.amend](train::Job& job) {
    amend(job);
    job.observers.push_back(std::make_unique<SlowWitness>());
    job.source = std::make_unique<WatchedSource>(std::move(job.source), [](int64_t step) {
      if (step == 3) pause();
    });
  };
  const Run run = run_training(setting);
  CHECK(seen.evaluated == std::vector<int64_t>{5, 6});
  REQUIRE(run.reports.size() == 6);
  for (const train::StepReport& report : run.reports) {
    INFO("step " << report.step << ": " << report.step_seconds << " s");
    CHECK(report.step_seconds > 0);
    CHECK((report.step_seconds >= kPause) == (report.step == 3));
  }
}

TEST_CASE("A run that fails has told all updates before, also where their numbers are read late", "[train]") {
  TempDir output;
  Setting setting;
  setting.numbers_are_read = GENERATE(NumbersAreRead::kAtOnce, NumbersAreRead::kAfterNext);
  std::vector<train::StepReport> reports;
  setting.amend = [&](train::Job& job) {
    job.source = broken_source(std::move(job.source), 2);
    job.observers.push_back(std::make_unique<Recorder>(reports));
    job.observers.push_back(std::make_unique<train::MetricsFile>(output.path(), [](const std::string&) {}));
  };
  require_error(ErrorKind::kData, {"the rows cannot be read"}, [&] { run_training(setting, output.path()); });
  REQUIRE(reports.size() == 2);
  CHECK(reports[1].step == 2);
  CHECK(reports[1].loss > 0);
  const std::string metrics = read_file(output / "metrics.jsonl");
  CHECK(std::count(metrics.begin(), metrics.end(), '\n') == 2);
}

TEST_CASE("With several ranks the update before a failure stays untold where it is read late", "[train]") {
  TempDir output;
  Setting setting;
  setting.numbers_are_read = NumbersAreRead::kAfterNext;
  std::vector<std::vector<train::StepReport>> reports(2);
  const auto rows = std::make_shared<const MemoryStore>(setting.num_rows, kVocabSize);
  const auto train_both = [&] {
    comm::run_thread_ranks(2, [&](comm::Communicator& communicator) {
      Setting own = setting;
      own.amend = [&](train::Job& job) {
        job.source = broken_source(std::move(job.source), 3);
        job.observers.push_back(std::make_unique<Recorder>(reports[communicator.rank()]));
      };
      train_rank(own, rows, communicator, output.path());
    });
  };
  require_error(ErrorKind::kData, {"the rows cannot be read"}, train_both);
  for (const auto& of_rank : reports) CHECK(of_rank.size() == 2);
}

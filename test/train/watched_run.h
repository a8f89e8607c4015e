#pragma once

#include <signal.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "io/json.h"
#include "train/tiny_run.h"

namespace dsft::test {

namespace fs = std::filesystem;

inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// An evaluation that gives the losses of a list, one each time.
class ScriptedEvaluation final : public train::Evaluation {
 public:
  explicit ScriptedEvaluation(std::vector<double> losses) : losses_(std::move(losses)) {}
  std::string name() const override { return "loss"; }
  std::optional<std::map<std::string, double>> run(model::CausalLm&, comm::Communicator&,
                                                   const train::EvaluationMoment& moment) override {
    if (moment.must_stop()) return std::nullopt;
    const double loss = losses_[std::min(next_++, losses_.size() - 1)];
    return std::map<std::string, double>{{"eval_loss", loss}, {"num_rows", 3}, {"num_tokens", 17}};
  }

 private:
  std::vector<double> losses_;
  size_t next_ = 0;
};

/// What a run told its observers.
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

/// Asks the run to stop after an update.
class Interrupter final : public train::Observer {
 public:
  explicit Interrupter(int64_t step) : step_(step) {}
  void on_step(const train::StepReport& report) override {
    if (report.step == step_) ::raise(SIGTERM);
  }

 private:
  int64_t step_;
};

/// 24 rows in updates of 8: three updates an epoch.
inline Setting setting_of(int64_t max_steps, std::vector<double> losses, Seen& seen) {
  Setting setting;
  setting.batch_size = 8;
  setting.max_steps = max_steps;
  setting.amend = [losses, &seen](train::Job& job) {
    job.evaluations.push_back(std::make_unique<ScriptedEvaluation>(losses));
    job.observers.push_back(std::make_unique<Witness>(seen));
  };
  return setting;
}

inline std::vector<int64_t> saved_steps(const fs::path& output_dir) {
  std::vector<int64_t> steps;
  for (const fs::path& path : checkpoint::list_checkpoints(output_dir))
    steps.push_back(*checkpoint::step_of_checkpoint(path));
  std::sort(steps.begin(), steps.end());
  return steps;
}

inline nlohmann::json state_of(const fs::path& output_dir, int64_t step) {
  return io::read_json_file(output_dir / concat("checkpoint-", step) / "trainer_state.json");
}

using Steps = std::vector<int64_t>;

}  // namespace dsft::test

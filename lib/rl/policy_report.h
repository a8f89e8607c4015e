#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/stopwatch.h"
#include "report/curve.h"
#include "report/record_file.h"
#include "report/run_page.h"
#include "train/observer.h"

namespace dsft::rl {

/// report.html of a GRPO run: curves of rewards and of the update, evaluations, the sampler's rate, and the newest
/// completions, in one file of bounded size that a browser shows without a network. Written anew every kBetween_s
/// seconds, after each evaluation and at the end, in one step. What cannot be written is said once and costs the run
/// nothing. The file of another run is renamed to report-<n>.html.
class PolicyReport final : public train::Observer {
 public:
  static constexpr double kBetween_s = 15;

  /// `output_dir` holds completions.jsonl and resolved.yaml.
  PolicyReport(std::filesystem::path output_dir, report::RecordFile::Warn warn);
  /// The last state of a run that failed.
  ~PolicyReport() override;

  void on_start(const train::RunPlan& plan) override;
  void on_step(const train::StepReport& report) override;
  void on_evaluation(int64_t step, double epoch, const std::map<std::string, double>& metrics) override;
  void on_end() override;

 private:
  enum class RunState;
  static const char* say(RunState state);
  void take(int64_t step, const std::map<std::string, double>& metrics);
  void write(RunState state) noexcept;
  report::RunPage page(RunState state) const;
  std::vector<report::KeyNumber> key_numbers() const;

  std::filesystem::path output_dir_;
  report::RecordFile::Warn warn_;
  train::RunPlan plan_;
  int64_t step_ = 0;
  std::map<std::string, report::Curve> curves_;  // by the metric's name
  std::map<std::string, double> first_;          // number of each
  Stopwatch since_start_, since_write_;
  bool has_begun_ = false, is_written_ = false, has_ended_ = false, has_warned_ = false;
};

}  // namespace dsft::rl

#pragma once

#include <deque>
#include <filesystem>
#include <optional>

#include "base/logger.h"
#include "estimate/advice.h"
#include "train/observer.h"
#include "train/run_context.h"

namespace dsft::recipe {

/// Says at the end of a run what has made it slower than it had to be, or left it little to learn (estimate::findings),
/// by the medians of its updates on this rank, of sampling by the means of those behind its first; in words, and in
/// output_dir/advice.json with what was measured. A run of fewer than ten
/// updates is too short to judge, and leaves no file.
class RunAdviser final : public train::Observer {
 public:
  /// `run`: what is known of it before it begins; its measures are taken here. `logger` must outlive it.
  RunAdviser(estimate::MeasuredRun run, const std::filesystem::path& output_dir, const Logger& logger);

  void on_start(const train::RunPlan& plan) override;
  void on_step(const train::StepReport& report) override;
  void on_end() override;

 private:
  void measure();
  void measure_sampling(estimate::MeasuredSampling& sampling) const;
  void write(const std::vector<estimate::Finding>& found) const;

  estimate::MeasuredRun run_;
  std::filesystem::path path_;
  const Logger& logger_;
  std::deque<train::StepReport> reports_;  // the last ones
};

}  // namespace dsft::recipe

#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "report/event_file.h"
#include "report/progress_line.h"
#include "report/record_file.h"
#include "train/observer.h"

namespace dsft::train {

/// metrics.jsonl: one object per log, from the first step of the run or of the one that it continues. The file of
/// another run is renamed to metrics-<n>.jsonl.
class MetricsFile final : public Observer {
 public:
  MetricsFile(std::filesystem::path output_dir, report::RecordFile::Warn warn)
      : path_(std::move(output_dir) / "metrics.jsonl"), warn_(std::move(warn)) {}
  void on_start(const RunPlan& plan) override;
  void on_log(const StepReport& mean) override;
  void on_evaluation(int64_t step, double epoch, const std::map<std::string, double>& metrics) override;
  void on_end() override { file_.reset(); }

 private:
  io::FileDescriptor open() const;
  void write(const std::string& line);

  std::filesystem::path path_;
  report::RecordFile::Warn warn_;
  std::optional<report::RecordFile> file_;
  RunPlan plan_;
};

/// TensorBoard's event file under output_dir/tb.
class TensorboardCurves final : public Observer {
 public:
  TensorboardCurves(const std::filesystem::path& output_dir, report::RecordFile::Warn warn)
      : directory_(output_dir / "tb"), warn_(std::move(warn)) {}
  void on_start(const RunPlan&) override { file_.emplace(directory_, warn_); }
  void on_log(const StepReport& mean) override;
  void on_evaluation(int64_t step, double epoch, const std::map<std::string, double>& metrics) override;

 private:
  std::filesystem::path directory_;
  report::RecordFile::Warn warn_;
  std::optional<report::EventFile> file_;
};

/// What a run shows to who watches it of what metrics.jsonl holds.
struct ShownMetrics {
  std::optional<std::string> of_update = {};    ///< before the loss
  std::vector<std::string> of_evaluation = {};  ///< those that there are, in this order; empty: all
};

/// The progress line on stderr, and messages above it.
class ProgressDisplay final : public Observer {
 public:
  explicit ProgressDisplay(report::Terminal terminal, ShownMetrics shown = {});
  void on_start(const RunPlan& plan) override;
  void on_step(const StepReport& report) override;
  void on_activity(const std::string& what, int64_t done, int64_t total) override;
  void on_evaluation(int64_t step, double epoch, const std::map<std::string, double>& metrics) override;
  void on_message(const std::string& line) override;
  void on_end() override { line_.finish(); }

 private:
  report::Terminal terminal_;
  report::ProgressLine line_;
  ShownMetrics shown_;
  RunPlan plan_;
  int64_t step_ = 0;  // the last one shown
};

}  // namespace dsft::train

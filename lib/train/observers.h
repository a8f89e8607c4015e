#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>

#include "report/event_file.h"
#include "report/progress_line.h"
#include "train/observer.h"

namespace dsft::train {

/// metrics.jsonl: one object per log. A resumed run keeps the lines up to its first step.
class MetricsFile final : public Observer {
 public:
  explicit MetricsFile(std::filesystem::path output_dir) : path_(std::move(output_dir) / "metrics.jsonl") {}
  void on_start(const RunPlan& plan) override;
  void on_step(const StepReport& report) override;
  void on_evaluation(int64_t step, double epoch, const std::map<std::string, double>& metrics) override;

 private:
  void write(const std::string& line);

  std::filesystem::path path_;
  std::ofstream file_;
  RunPlan plan_;
};

/// TensorBoard's event file under output_dir/tb.
class TensorboardCurves final : public Observer {
 public:
  explicit TensorboardCurves(const std::filesystem::path& output_dir) : file_(output_dir / "tb") {}
  void on_start(const RunPlan& plan) override { plan_ = plan; }
  void on_step(const StepReport& report) override;
  void on_evaluation(int64_t step, double epoch, const std::map<std::string, double>& metrics) override;

 private:
  report::EventFile file_;
  RunPlan plan_;
};

/// The progress line on stderr, and messages above it.
class ProgressDisplay final : public Observer {
 public:
  explicit ProgressDisplay(report::Terminal terminal);
  void on_start(const RunPlan& plan) override { plan_ = plan; }
  void on_step(const StepReport& report) override;
  void on_evaluation(int64_t step, double epoch, const std::map<std::string, double>& metrics) override;
  void on_message(const std::string& line) override;
  void on_end() override { line_.finish(); }

 private:
  report::Terminal terminal_;
  report::ProgressLine line_;
  RunPlan plan_;
};

}  // namespace dsft::train

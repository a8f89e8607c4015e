#include "train/observers.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "train/metrics_line.h"

namespace dsft::train {
namespace {

bool is_logged(const StepReport& report, const RunPlan& plan) {
  return report.step % plan.logging_steps == 0 || report.step == plan.max_steps;
}

double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Lines of an earlier part of the run: those up to the step that it continues from.
std::vector<std::string> lines_to_keep(const std::filesystem::path& path, int64_t first_step) {
  std::vector<std::string> kept;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (object.is_object() && object.value("step", first_step + 1) <= first_step) kept.push_back(line);
  }
  return kept;
}

}  // namespace

void MetricsFile::on_start(const RunPlan& plan) {
  plan_ = plan;
  const std::vector<std::string> kept =
      plan.first_step > 0 ? lines_to_keep(path_, plan.first_step) : std::vector<std::string>();
  file_.open(path_, std::ios::trunc);
  if (!file_) fail(ErrorKind::kCheckpoint, "cannot write ", path_.string());
  for (const std::string& line : kept) write(line);
}

void MetricsFile::write(const std::string& line) {
  file_ << line << '\n' << std::flush;
}

void MetricsFile::on_step(const StepReport& report) {
  if (is_logged(report, plan_)) write(format_metrics(report));
}

void MetricsFile::on_evaluation(int64_t step, double epoch, const std::map<std::string, double>& metrics) {
  write(format_metrics(step, epoch, metrics));
}

void TensorboardCurves::on_step(const StepReport& report) {
  if (!is_logged(report, plan_)) return;
  std::map<std::string, double> scalars = {{"train/loss", report.loss},
                                           {"train/grad_norm", report.grad_norm},
                                           {"train/learning_rate", report.learning_rate},
                                           {"train/tokens_per_second", report.step_tokens / report.step_seconds},
                                           {"train/epoch", report.epoch}};
  for (const auto& [name, value] : report.metrics) scalars["train/" + name] = value;
  file_.add_scalars(report.step, scalars);
}

void TensorboardCurves::on_evaluation(int64_t step, double, const std::map<std::string, double>& metrics) {
  std::map<std::string, double> scalars;
  for (const auto& [name, value] : metrics)
    scalars["eval/" + (name.starts_with("eval_") ? name.substr(5) : name)] = value;
  file_.add_scalars(step, scalars);
}

ProgressDisplay::ProgressDisplay(report::Terminal terminal) : terminal_(terminal), line_(terminal, monotonic_seconds) {}

void ProgressDisplay::on_step(const StepReport& report) {
  line_.show(
      {report.step, plan_.max_steps, report.loss, report.step_tokens / report.step_seconds, report.peak_memory_gib});
}

void ProgressDisplay::on_evaluation(int64_t step, double, const std::map<std::string, double>& metrics) {
  std::ostringstream line;
  line << "evaluation after step " << step << ":";
  line.precision(4);
  for (const auto& [name, value] : metrics) line << "  " << name << " " << value;
  on_message(line.str());
}

void ProgressDisplay::on_message(const std::string& line) {
  line_.clear();
  *terminal_.out << line << std::endl;
}

}  // namespace dsft::train

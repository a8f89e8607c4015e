#include "train/observers.h"

#include <chrono>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "io/file.h"
#include "train/metrics_line.h"

namespace dsft::train {
namespace {

double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

void MetricsFile::on_start(const RunPlan& plan) {
  plan_ = plan;
  file_.emplace(
      path_, [this] { return open(); }, warn_);
  file_->append("");
}

io::FileDescriptor MetricsFile::open() const {
  if (plan_.is_new_run) {
    if (const auto renamed = report::set_aside(path_))
      warn_(concat(path_.string(), " of an earlier run is now ", renamed->filename().string()));
  }
  std::string earlier;
  for (const std::string& line : plan_.earlier_log) earlier += line + '\n';
  io::replace_text_file(path_, earlier);  // also without what a killed run logged behind its last checkpoint
  return io::open_for_appending(path_);
}

void MetricsFile::write(const std::string& line) {
  if (file_) file_->append(line + '\n');
}

void MetricsFile::on_log(const StepReport& mean) {
  write(format_metrics(mean));
}

void MetricsFile::on_evaluation(int64_t step, double epoch, const std::map<std::string, double>& metrics) {
  write(format_metrics(step, epoch, metrics));
}

void TensorboardCurves::on_log(const StepReport& mean) {
  if (!file_) return;
  std::map<std::string, double> scalars = {{"train/loss", mean.loss},
                                           {"train/grad_norm", mean.grad_norm},
                                           {"train/learning_rate", mean.learning_rate},
                                           {"train/tokens_per_second", mean.tokens_per_second()},
                                           {"train/step_time", mean.step_time()},
                                           {"train/epoch", mean.epoch}};
  for (const auto& [name, value] : mean.metrics) scalars["train/" + name] = value;
  file_->add_scalars(mean.step, scalars);
}

void TensorboardCurves::on_evaluation(int64_t step, double, const std::map<std::string, double>& metrics) {
  std::map<std::string, double> scalars;
  for (const auto& [name, value] : metrics)
    scalars["eval/" + (name.starts_with("eval_") ? name.substr(5) : name)] = value;
  if (file_) file_->add_scalars(step, scalars);
}

ProgressDisplay::ProgressDisplay(report::Terminal terminal, ShownMetrics shown)
    : terminal_(terminal), line_(terminal, monotonic_seconds), shown_(std::move(shown)) {}

void ProgressDisplay::on_start(const RunPlan& plan) {
  plan_ = plan;
  step_ = plan.first_step;
}

void ProgressDisplay::on_activity(const std::string& what, int64_t done, int64_t total) {
  line_.show_activity(step_, plan_.max_steps, concat(what, " ", done, " of ", total));
}

void ProgressDisplay::on_step(const StepReport& report) {
  step_ = report.step;
  report::Progress progress{.step = report.step,
                            .num_steps = plan_.max_steps,
                            .loss = report.loss,
                            .tokens_per_second = report.tokens_per_second(),
                            .memory_gib = report.peak_memory_gib};
  if (shown_.of_update)
    if (const auto found = report.metrics.find(*shown_.of_update); found != report.metrics.end())
      progress.headline = *found;
  line_.show(progress);
}

void ProgressDisplay::on_evaluation(int64_t step, double, const std::map<std::string, double>& metrics) {
  std::ostringstream line;
  line << "evaluation after step " << step << ":";
  line.precision(4);
  line_.finish();  // the step that is evaluated stays above
  if (shown_.of_evaluation.empty())
    for (const auto& [name, value] : metrics) line << "  " << name << " " << value;
  for (const std::string& name : shown_.of_evaluation)
    if (const auto found = metrics.find(name); found != metrics.end()) line << "  " << name << " " << found->second;
  on_message(line.str());
}

void ProgressDisplay::on_message(const std::string& line) {
  line_.clear();
  *terminal_.out << line << std::endl;
}

}  // namespace dsft::train

#include "train/metric_means.h"

#include <cmath>
#include <limits>
#include <utility>

namespace dsft::train {

void MetricMeans::add(const std::map<std::string, double>& metrics) {
  for (const auto& [name, value] : metrics) {
    Sum& sum = sums_[name];
    if (std::isnan(value)) continue;
    sum.value += value;
    ++sum.count;
  }
}

std::map<std::string, double> MetricMeans::values() const {
  std::map<std::string, double> means;
  for (const auto& [name, sum] : sums_)
    means[name] = sum.count > 0 ? sum.value / static_cast<double>(sum.count) : std::numeric_limits<double>::quiet_NaN();
  return means;
}

void LogWindow::add(const StepReport& report) {
  last_ = report;
  losses_.add({{"loss", std::isfinite(report.loss) ? report.loss : std::numeric_limits<double>::quiet_NaN()}});
  metrics_.add(report.metrics);
  num_updates_ += report.num_updates;
  num_tokens_ += report.step_tokens;
  seconds_ += report.step_seconds;
  is_applied_ = is_applied_ && report.is_applied;
}

StepReport LogWindow::take() {
  const LogWindow window = std::exchange(*this, LogWindow());
  StepReport report = window.last_;
  report.loss = window.losses_.values().at("loss");
  report.metrics = window.metrics_.values();
  report.num_updates = window.num_updates_;
  report.step_tokens = window.num_tokens_;
  report.step_seconds = window.seconds_;
  report.is_applied = window.is_applied_;
  return report;
}

}  // namespace dsft::train

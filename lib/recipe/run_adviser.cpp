#include "recipe/run_adviser.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/file.h"
#include "train/metric_means.h"

namespace dsft::recipe {
namespace {

constexpr size_t kFewestReports = 10, kMostReports = 256;
constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Of a metric's values, those that are none aside.
double mean_of(const std::deque<train::StepReport>& reports, const char* metric) {
  train::MetricMeans means;
  for (const train::StepReport& report : reports)
    if (const auto found = report.metrics.find(metric); found != report.metrics.end()) means.add({*found});
  const auto values = means.values();
  const auto mean = values.find(metric);
  return mean != values.end() && std::isfinite(mean->second) ? mean->second : 0;
}

// A backward pass takes about two forward passes.
double forward_passes(train::GradientCheckpointing recompute) {
  switch (recompute) {
    case train::GradientCheckpointing::kTrue:
      return 4;
    case train::GradientCheckpointing::kSelective:
      return 3 + 2.0 / 3;
    case train::GradientCheckpointing::kFalse:
      break;
  }
  return 3;
}

}  // namespace

RunAdviser::RunAdviser(estimate::MeasuredRun run, const std::filesystem::path& output_dir, const Logger& logger)
    : run_(std::move(run)), path_(output_dir / "advice.json"), logger_(logger) {}

void RunAdviser::on_start(const train::RunPlan&) {
  std::error_code ignored;  // there may be none of an earlier run
  std::filesystem::remove(path_, ignored);
}

void RunAdviser::on_step(const train::StepReport& report) {
  reports_.push_back(report);
  if (reports_.size() > kMostReports) reports_.pop_front();
}

void RunAdviser::on_end() {
  if (reports_.size() < kFewestReports) return;
  measure();
  const std::vector<estimate::Finding> found = estimate::findings(run_);
  for (const estimate::Finding& finding : found)
    logger_.info(finding.aim == estimate::Aim::kSpeed ? "to go faster: " : "to learn more: ", finding.sentence);
  write(found);
}

void RunAdviser::measure() {
  const auto median_of = [this](auto value_of) {
    std::vector<double> values;
    for (const train::StepReport& report : reports_)
      if (const std::optional<double> value = value_of(report)) values.push_back(*value);
    return median(std::move(values));
  };
  run_.step_s = median_of([this](const auto& report) {
    return std::optional(run_.sampling ? report.update_seconds : report.step_seconds);
  });
  run_.data_s = median_of([](const auto& report) { return std::optional(report.data_seconds); });
  run_.optimizer_s = median_of([](const auto& report) { return std::optional(report.optimizer_seconds); });
  run_.communication_s = median_of([](const auto& report) { return report.wait_seconds; });
  const double passes_s = std::max(0.0, run_.step_s - run_.data_s - run_.optimizer_s - run_.communication_s);
  run_.forward_s = passes_s / forward_passes(run_.workload.recompute);
  double peak_gib = reports_.back().peak_memory_gib;
  if (run_.sampling) {
    peak_gib = 0;
    for (const train::StepReport& report : reports_) peak_gib = std::max(peak_gib, report.update_peak_gib);
    measure_sampling(*run_.sampling);
  }
  run_.peak_bytes = static_cast<int64_t>(peak_gib * kGib);
}

// Rounds that serve several updates, or several of one, have means alone. The first update, in which much is made for
// good, is no typical one.
void RunAdviser::measure_sampling(estimate::MeasuredSampling& sampling) const {
  std::deque<train::StepReport> typical = reports_;
  typical.pop_front();
  double updates_s = 0;
  for (const train::StepReport& report : typical) {
    sampling.step_s += report.step_seconds / static_cast<double>(typical.size());
    updates_s += report.update_seconds / static_cast<double>(typical.size());
  }
  sampling.rollout_s = std::max(0.0, sampling.step_s - updates_s);
  sampling.waiting_s =
      std::min(sampling.rollout_s, sampling.rounds_of_update * mean_of(typical, "rollout/waiting_for_rewards_seconds"));
  sampling.zero_deviation = mean_of(typical, "frac_reward_zero_std");
  sampling.truncated = mean_of(typical, "completions/clipped_ratio");
}

void RunAdviser::write(const std::vector<estimate::Finding>& found) const {
  nlohmann::ordered_json document = {{"step_seconds", run_.step_s},
                                     {"data_seconds", run_.data_s},
                                     {"optimizer_seconds", run_.optimizer_s},
                                     {"wait_seconds", run_.communication_s},
                                     {"peak_memory_gib", static_cast<double>(run_.peak_bytes) / kGib},
                                     {"memory_gib", static_cast<double>(run_.device_bytes) / kGib}};
  if (const auto& sampling = run_.sampling) {
    document["step_seconds"] = sampling->step_s;
    document["update_seconds"] = run_.step_s;
    document["rollout_seconds"] = sampling->rollout_s;
    document["waiting_for_rewards_seconds"] = sampling->waiting_s;
    document["frac_reward_zero_std"] = sampling->zero_deviation;
    document["clipped_ratio"] = sampling->truncated;
  }
  document["advice"] = nlohmann::ordered_json::array();
  for (const estimate::Finding& finding : found)
    document["advice"].push_back({{"sentence", finding.sentence},
                                  {"seconds", finding.seconds},
                                  {"aim", finding.aim == estimate::Aim::kSpeed ? "speed" : "learning"}});
  io::replace_text_file(path_, document.dump(2) + "\n");
}

}  // namespace dsft::recipe

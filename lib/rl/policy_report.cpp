#include "rl/policy_report.h"

#include <cmath>
#include <ctime>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/file.h"
#include "report/completion_tables.h"
#include "report/html_text.h"
#include "report/newest_records.h"
#include "report/progress_line.h"
#include "rl/policy_charts.h"

namespace dsft::rl {
namespace {

constexpr size_t kMostCompletions = 32;
constexpr uint64_t kMostBytesRead = uint64_t{1} << 20;  // of completions.jsonl

// The metric whose values are the deviations of this one.
std::string deviation_of(const std::string& metric) {
  constexpr std::string_view kMean = "/mean";
  if (metric.ends_with("reward")) return metric + "_std";
  return metric.ends_with(kMean) ? metric.substr(0, metric.size() - kMean.size()) + "/std" : "";
}

bool is_deviation(const std::string& metric) {
  return metric.ends_with("/std") || metric.ends_with("reward_std");
}

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text;
}

std::string read_recipe(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

enum class PolicyReport::RunState { kGoesOn, kEnded, kStopped, kFailed };

const char* PolicyReport::say(RunState state) {
  switch (state) {
    case RunState::kGoesOn:
      return "goes on";
    case RunState::kEnded:
      return "has ended";
    case RunState::kStopped:
      return "was stopped";
    case RunState::kFailed:
      break;
  }
  return "ended before its last update";
}

PolicyReport::PolicyReport(std::filesystem::path output_dir, report::RecordFile::Warn warn)
    : output_dir_(std::move(output_dir)), warn_(std::move(warn)) {}

PolicyReport::~PolicyReport() {
  const bool has_something = is_written_ || (has_begun_ && std::filesystem::exists(output_dir_ / "completions.jsonl"));
  if (has_something && !has_ended_) write(RunState::kFailed);
}

void PolicyReport::on_start(const train::RunPlan& plan) {
  has_begun_ = true;
  plan_ = plan;
  step_ = plan.first_step;
  since_start_.restart();
  for (const std::string& line : plan.earlier_log) {
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) continue;
    std::map<std::string, double> metrics;
    for (const auto& [name, value] : object.items())
      if (value.is_number() && name != "step" && name != "epoch" && name != "num_tokens" && name != "tokens_per_second")
        metrics[name] = value.get<double>();
    take(object.value("step", int64_t{0}), metrics);
  }
  plan_.earlier_log.clear();
  if (!plan.is_new_run) return;
  if (const auto renamed = report::set_aside(output_dir_ / "report.html"))
    warn_(concat((output_dir_ / "report.html").string(), " of an earlier run is now ", renamed->filename().string()));
}

void PolicyReport::take(int64_t step, const std::map<std::string, double>& metrics) {
  for (const auto& [name, value] : metrics) {
    if (is_deviation(name)) continue;
    const auto deviation = metrics.find(deviation_of(name));
    curves_[name].add(step, value, deviation == metrics.end() ? std::nan("") : deviation->second);
    if (std::isfinite(value)) first_.try_emplace(name, value);
  }
}

void PolicyReport::on_step(const train::StepReport& report) {
  step_ = report.step;
  std::map<std::string, double> metrics = report.metrics;
  metrics.insert({{"loss", report.loss},
                  {"grad_norm", report.grad_norm},
                  {"learning_rate", report.learning_rate},
                  {"step_time", report.step_time()}});
  if (report.peak_memory_gib > 0) metrics["peak_memory_gib"] = report.peak_memory_gib;
  take(report.step, metrics);
  if (!is_written_ || since_write_.seconds() >= kBetween_s) write(RunState::kGoesOn);
}

void PolicyReport::on_evaluation(int64_t step, double, const std::map<std::string, double>& metrics) {
  take(step, metrics);
  write(RunState::kGoesOn);
}

void PolicyReport::on_end() {
  has_ended_ = true;
  write(step_ >= plan_.max_steps ? RunState::kEnded : RunState::kStopped);
}

std::vector<report::KeyNumber> PolicyReport::key_numbers() const {
  std::vector<report::KeyNumber> numbers = {{"updates", concat(step_, " of ", plan_.max_steps), ""}};
  const auto add = [&](const std::string& metric, const std::string& label, const std::string& note) {
    const auto curve = curves_.find(metric);
    if (curve == curves_.end() || std::isnan(curve->second.latest())) return;
    const auto first = first_.find(metric);
    numbers.push_back(
        {label, report::format_number(curve->second.latest()),
         !note.empty() || first == first_.end() ? note : "first " + report::format_number(first->second)});
  };
  add("reward", "reward", "");
  add("eval_reward", "reward, evaluation", "");
  add("eval_pass@1", "pass@1, evaluation", "");
  add("kl", "KL to the reference", "");
  add("entropy", "entropy", "");
  add("completions/mean_length", "mean length", "tokens");
  add("completions/clipped_ratio", "truncated", "share of completions");
  add("rollout/tokens_per_second", "sampled tokens/s", "all ranks");
  add("step_time", "seconds of an update", "");
  return numbers;
}

report::RunPage PolicyReport::page(RunState state) const {
  report::RunPage page{.title = "GRPO: " + output_dir_.string(),
                       .status = concat("The run ", say(state), ", after ",
                                        report::format_duration(since_start_.seconds()), ". Written ", time_now(), "."),
                       .is_growing = state == RunState::kGoesOn,
                       .key_numbers = key_numbers(),
                       .sections = policy_charts(curves_)};
  page.samples = report::draw_completions(
      report::newest_records(output_dir_ / "completions.jsonl", kMostCompletions, kMostBytesRead));
  const std::string recipe = read_recipe(output_dir_ / "resolved.yaml");
  if (!recipe.empty()) page.files.emplace_back("Recipe (resolved.yaml)", recipe);
  return page;
}

// An observer that fails is said once by the trainer, whichever it is; this one says what it lacks itself.
void PolicyReport::write(RunState state) noexcept {
  try {
    since_write_.restart();
    is_written_ = true;
    io::replace_text_file(output_dir_ / "report.html", report::write_page(page(state)));
  } catch (const std::exception& error) {
    if (!has_warned_)
      warn_(concat((output_dir_ / "report.html").string(), " is not written; the run goes on. ", error.what()));
    has_warned_ = true;
  }
}

}  // namespace dsft::rl

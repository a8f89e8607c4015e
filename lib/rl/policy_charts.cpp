#include "rl/policy_charts.h"

#include <array>
#include <cmath>
#include <optional>
#include <set>

namespace dsft::rl {
namespace {

using Curves = std::map<std::string, report::Curve>;
using Share = std::optional<std::pair<double, double>>;
constexpr std::pair<double, double> kShare = {0, 1};

struct Line {
  const char* metric;
  const char* label;
};

/// Takes curves for charts and remembers which are taken.
class Drawer {
 public:
  explicit Drawer(const Curves& curves) : curves_(curves) {}

  bool has(const std::string& metric) const { return curves_.contains(metric); }

  void add(report::LineChart& chart, const std::string& metric, const std::string& label) {
    const auto found = curves_.find(metric);
    if (found == curves_.end()) return;
    taken_.insert(metric);
    chart.series.push_back({label, found->second.points()});
  }

  report::LineChart chart(const char* title, const char* explanation, const std::vector<Line>& lines,
                          Share shows_all = {}) {
    report::LineChart chart{.title = title, .explanation = explanation, .series = {}, .shows_all = shows_all};
    for (const Line& line : lines) add(chart, line.metric, line.label);
    return chart;
  }

  /// A chart for each metric <begin><name><end>.
  void add_each(std::vector<report::LineChart>& charts, const std::string& begin, const std::string& end,
                const char* explanation) {
    for (const auto& [metric, curve] : curves_) {
      if (!metric.starts_with(begin) || !metric.ends_with(end) || metric.size() <= begin.size() + end.size()) continue;
      report::LineChart chart{.title = metric.substr(begin.size(), metric.size() - begin.size() - end.size()),
                              .explanation = explanation,
                              .series = {}};
      add(chart, metric, chart.title);
      charts.push_back(std::move(chart));
    }
  }

  /// The ensemble and each of its agents, in metrics <begin>ensemble<end> and <begin>agents/<name><end>.
  report::LineChart of_agents(const char* title, const char* explanation, const std::string& begin,
                              const std::string& end) {
    report::LineChart chart{.title = title, .explanation = explanation, .series = {}, .shows_all = kShare};
    add(chart, begin + "ensemble" + end, "ensemble");
    const std::string agents = begin + "agents/";
    for (const auto& [metric, curve] : curves_)
      if (metric.starts_with(agents) && metric.ends_with(end) && metric.size() > agents.size() + end.size())
        add(chart, metric, metric.substr(agents.size(), metric.size() - agents.size() - end.size()));
    return chart;
  }

  void take(const std::string& metric) { taken_.insert(metric); }

  std::vector<report::LineChart> others() {
    std::vector<report::LineChart> charts;
    for (const auto& [metric, curve] : curves_) {
      if (taken_.contains(metric)) continue;
      charts.push_back({.title = metric, .series = {{metric, curve.points()}}});
      charts.back().marks_points = metric.starts_with("eval_");
    }
    return charts;
  }

 private:
  const Curves& curves_;
  std::set<std::string> taken_;
};

std::vector<report::LineChart> reward_charts(Drawer& drawer) {
  std::vector<report::LineChart> charts;
  charts.push_back(
      drawer.chart("Reward", "Weighted sum, mean over a round; band: one standard deviation", {{"reward", "reward"}}));
  drawer.add_each(charts, "rewards/", "/mean", "One reward before its weight; band: one standard deviation");
  charts.push_back(drawer.chart("Groups without deviation",
                                "Share of completions whose group is worth the same throughout: they teach nothing",
                                {{"frac_reward_zero_std", "share"}}, kShare));
  charts.push_back(
      drawer.chart("Failed rewards", "Completions without a value in a round", {{"rewards/failed", "failed"}}));
  return charts;
}

std::vector<report::LineChart> agent_charts(Drawer& drawer) {
  return {drawer.of_agents("Accuracy", "Share of right answers, of each agent and of the ensemble", "", "/accuracy"),
          drawer.of_agents("Agreement", "Mean share of the other agents that give the same answer", "", "/consistency"),
          drawer.of_agents("Weights of the pool", "How much each agent's state counts", "", "/pool_weight"),
          drawer.chart("Loss of the pool", "Of a token of the right answers, in nats", {{"ensemble/loss", "loss"}})};
}

std::vector<report::LineChart> evaluation_charts(const Curves& curves, Drawer& drawer) {
  std::vector<report::LineChart> charts;
  report::LineChart pass{.title = "pass@k",
                         .explanation = "Share of evaluation prompts of which one of k completions passes",
                         .series = {},
                         .shows_all = kShare};
  std::map<int64_t, std::string> by_k;
  for (const auto& [metric, curve] : curves)
    if (metric.starts_with("eval_pass@")) by_k[std::stoll(metric.substr(10))] = metric;
  for (const auto& [k, metric] : by_k) drawer.add(pass, metric, metric.substr(5));
  charts.push_back(std::move(pass));
  charts.push_back(drawer.chart("Reward on evaluation prompts",
                                "Mean over all completions; band: one standard deviation",
                                {{"eval_reward", "eval_reward"}}));
  drawer.add_each(charts, "eval_rewards/", "/mean", "One reward on evaluation prompts; band: one standard deviation");
  charts.push_back(
      drawer.of_agents("Accuracy on evaluation prompts", "Of each agent and of the ensemble", "eval_", "/accuracy"));
  charts.push_back(drawer.of_agents("Agreement on evaluation prompts",
                                    "Mean share of the other agents that give the same answer", "eval_",
                                    "/consistency"));
  charts.push_back(drawer.chart("Length on evaluation prompts", "Tokens of a completion",
                                {{"eval_completions/mean_length", "mean"},
                                 {"eval_completions/mean_terminated_length", "mean of those that ended"}}));
  charts.push_back(drawer.chart(
      "Shares on evaluation prompts", "",
      {{"eval_completions/clipped_ratio", "truncated"}, {"eval_frac_reward_zero_std", "in groups without deviation"}},
      kShare));
  charts.push_back(drawer.chart("Loss of the pool on evaluation prompts", "Of a token of the right answers, in nats",
                                {{"eval_ensemble/loss", "loss"}}));
  for (report::LineChart& chart : charts) chart.marks_points = true;
  for (const auto& [metric, curve] : curves)  // those of training
    if (metric.starts_with("eval_agents/") && metric.ends_with("/pool_weight")) drawer.take(metric);
  for (const char* metric : {"eval_completions/min_length", "eval_completions/max_length",
                             "eval_completions/min_terminated_length", "eval_completions/max_terminated_length"})
    drawer.take(metric);
  return charts;
}

// Losses whose terms have a log-probability as a factor (cispo, vespo) begin anywhere, the others near 0.
const char* explain_loss_curve(const Drawer& drawer) {
  if (drawer.has("cispo_clip_ratio") || drawer.has("vespo/phi_seq_mean"))
    return "Log-probabilities weighed by advantages: says little of the policy";
  return drawer.has("policy_loss") ? "Says little of the policy: without the entropy term it begins near 0"
                                   : "Says little of the policy: it begins near 0";
}

std::vector<report::LineChart> update_charts(Drawer& drawer) {
  return {
      drawer.chart("Loss", explain_loss_curve(drawer), {{"loss", "loss"}, {"policy_loss", "without the entropy term"}}),
      drawer.chart("KL to the reference", "Mean over tokens", {{"kl", "kl"}}),
      drawer.chart("Entropy", "Of the next token's distribution, in nats",
                   {{"entropy", "mean"}, {"entropy_in_loss", "of the tokens that the loss takes"}}),
      drawer.chart("Clipped ratios", "Share of tokens (or sequences); 0 where updates are on-policy",
                   {{"clip_ratio/region_mean", "clipped"},
                    {"clip_ratio/low_mean", "below"},
                    {"clip_ratio/high_mean", "above"},
                    {"cispo_clip_ratio", "above epsilon_high"}}),
      drawer.chart("Most clipped sequences", "Share of a sequence's tokens",
                   {{"clip_ratio/low_min", "least below"}, {"clip_ratio/high_max", "most above"}}),
      drawer.chart("Weight of sequences", "vespo's phi", {{"vespo/phi_seq_mean", "mean"}}),
      drawer.chart("Gradient norm", "Before clipping", {{"grad_norm", "norm"}}),
      drawer.chart("Learning rate", "", {{"learning_rate", "rate"}}),
      drawer.chart("Sampler against trainer", "Distance of their log-probabilities of sampled tokens",
                   {{"sampling/sampling_logp_difference/mean", "mean"},
                    {"sampling/sampling_logp_difference/signed_mean", "mean with its sign"},
                    {"sampling/sampling_logp_difference/max", "largest"}})};
}

std::vector<report::LineChart> completion_charts(Drawer& drawer) {
  return {drawer.chart("Length of completions", "Tokens",
                       {{"completions/mean_length", "mean"},
                        {"completions/min_length", "least"},
                        {"completions/max_length", "most"}}),
          drawer.chart("Length of those that ended", "Tokens",
                       {{"completions/mean_terminated_length", "mean"},
                        {"completions/min_terminated_length", "least"},
                        {"completions/max_terminated_length", "most"}}),
          drawer.chart("Truncated completions", "Share that max_completion_length ended",
                       {{"completions/clipped_ratio", "share"}}, kShare)};
}

std::vector<report::LineChart> speed_charts(Drawer& drawer) {
  return {drawer.chart("Sampler", "Tokens of all ranks per second of sampling",
                       {{"rollout/tokens_per_second", "tokens/s"}}),
          drawer.chart("Time of an update", "Seconds: the whole of it, and what of it a round of sampling takes",
                       {{"step_time", "whole"},
                        {"rollout/sampling_seconds", "sampling"},
                        {"rollout/waiting_for_rewards_seconds", "idle, waiting for rewards"},
                        {"rollout/scoring_seconds", "old and reference log-probabilities"}}),
          drawer.chart("Memory of the device", "Highest so far, in GiB", {{"peak_memory_gib", "GiB"}})};
}

}  // namespace

std::vector<report::ChartSection> policy_charts(const Curves& curves) {
  Drawer drawer(curves);
  std::vector<report::ChartSection> sections;
  sections.push_back({"Rewards", reward_charts(drawer)});
  sections.push_back({"Agents", agent_charts(drawer)});
  sections.push_back({"Evaluation", evaluation_charts(curves, drawer)});
  sections.push_back({"Completions", completion_charts(drawer)});
  sections.push_back({"Update", update_charts(drawer)});
  sections.push_back({"Speed", speed_charts(drawer)});
  sections.push_back({"Other metrics", drawer.others()});
  return sections;
}

}  // namespace dsft::rl

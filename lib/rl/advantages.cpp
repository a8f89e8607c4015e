#include "rl/advantages.h"

#include <cmath>
#include <limits>

#include "base/error.h"

namespace dsft::rl {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kAddedToDeviation = 1e-4;
constexpr double kZeroDeviation = 1e-8;  // torch.isclose

// Sums of each completion's rewards by their weights; NaN where none applies, by `applies_like`.
std::vector<double> weighted_sums(const std::vector<double>& values, const RewardTable& applies_like,
                                  const AdvantageRules& rules) {
  const auto num_rewards = static_cast<size_t>(applies_like.num_rewards);
  std::vector<double> sums(values.size() / num_rewards, 0);
  for (size_t row = 0; row < sums.size(); ++row) {
    bool applies = false;
    for (size_t k = 0; k < num_rewards; ++k) {
      const double value = values[row * num_rewards + k];
      applies = applies || !std::isnan(applies_like.values[row * num_rewards + k]);
      if (!std::isnan(value)) sums[row] += (rules.weights.empty() ? 1.0 : rules.weights[k]) * value;
    }
    if (!applies) sums[row] = kNone;
  }
  return sums;
}

// A single completion deviates from nothing.
double deviation(std::span<const double> values) {
  return values.size() > 1 ? deviation_of_scored(values) : 0.0;
}

// Each reward less its mean in the group, over its deviation there.
std::vector<double> normalised_in_groups(const RewardTable& table, size_t group) {
  const auto num_rewards = static_cast<size_t>(table.num_rewards);
  std::vector<double> normalised(table.values.size()), of_group(group);
  for (size_t first = 0; first < table.values.size(); first += group * num_rewards) {
    for (size_t k = 0; k < num_rewards; ++k) {
      for (size_t i = 0; i < group; ++i) of_group[i] = table.values[first + i * num_rewards + k];
      const double mean = mean_of_scored(of_group), scale = deviation(of_group) + kAddedToDeviation;
      for (size_t i = 0; i < group; ++i) normalised[first + i * num_rewards + k] = (of_group[i] - mean) / scale;
    }
  }
  return normalised;
}

}  // namespace

double mean_of_scored(std::span<const double> values) {
  double sum = 0;
  int64_t count = 0;
  for (const double value : values) {
    if (std::isnan(value)) continue;
    sum += value;
    ++count;
  }
  return count > 0 ? sum / static_cast<double>(count) : kNone;
}

double deviation_of_scored(std::span<const double> values) {
  const double mean = mean_of_scored(values);
  double sum = 0;
  int64_t count = 0;
  for (const double value : values) {
    if (std::isnan(value)) continue;
    sum += (value - mean) * (value - mean);
    ++count;
  }
  return count > 1 ? std::sqrt(sum / static_cast<double>(count - 1)) : kNone;
}

Advantages compute_advantages(const RewardTable& table, const AdvantageRules& rules) {
  const auto group = static_cast<size_t>(rules.num_generations);
  const auto num_rows = static_cast<size_t>(table.num_completions());
  DSFT_CHECK(
      group > 0 && num_rows % group == 0 && table.values.size() == num_rows * static_cast<size_t>(table.num_rewards),
      table.values.size(), " rewards of ", table.num_rewards, " functions in groups of ", group);
  DSFT_CHECK(rules.weights.empty() || rules.weights.size() == static_cast<size_t>(table.num_rewards),
             rules.weights.size(), " weights of ", table.num_rewards, " rewards");
  Advantages result;
  result.rewards = weighted_sums(table.values, table, rules);
  const bool sums_first = rules.aggregation == Aggregation::kSumThenNormalize;
  const std::vector<double> scores =
      sums_first ? result.rewards : weighted_sums(normalised_in_groups(table, group), table, rules);
  const bool by_batch = !sums_first || rules.scale == ScaleRewards::kBatch;
  const double batch_mean = mean_of_scored(scores), batch_deviation = deviation(scores);
  result.values.resize(num_rows);
  size_t num_without_deviation = 0;
  for (size_t first = 0; first < num_rows; first += group) {
    const std::span<const double> of_group(scores.data() + first, group);
    const double mean = sums_first ? mean_of_scored(of_group) : batch_mean;
    const double spread = by_batch ? batch_deviation : deviation(of_group);
    if (std::abs(spread) <= kZeroDeviation) num_without_deviation += group;
    const bool is_scaled = !sums_first || rules.scale != ScaleRewards::kNone;
    for (size_t i = first; i < first + group; ++i) {
      const double advantage = (scores[i] - mean) / (is_scaled ? spread + kAddedToDeviation : 1.0);
      result.values[i] = std::isnan(advantage) ? 0.0 : advantage;
    }
  }
  result.share_without_deviation =
      num_rows > 0 ? static_cast<double>(num_without_deviation) / static_cast<double>(num_rows) : 0.0;
  return result;
}

}  // namespace dsft::rl

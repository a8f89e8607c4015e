#include "rl/judged_round.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace dsft::rl {
namespace {

constexpr double kDoesNotApply = std::numeric_limits<double>::quiet_NaN();

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

void add_lengths(const std::string& name, const std::vector<double>& lengths, std::map<std::string, double>& metrics) {
  metrics["completions/mean_" + name] = lengths.empty() ? 0 : mean(lengths);
  metrics["completions/min_" + name] = lengths.empty() ? 0 : *std::min_element(lengths.begin(), lengths.end());
  metrics["completions/max_" + name] = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

}  // namespace

JudgedRound::JudgedRound(const std::vector<Judgement>& own, const GrpoConfig& config,
                         const std::vector<double>& weights, const GenerationBatch& batch,
                         comm::Communicator& communicator)
    : num_generations_(batch.num_generations) {
  const size_t num_rewards = weights.size(), size = static_cast<size_t>(batch.num_completions());
  const std::vector<Judgement> all = gather_judgements(own, num_rewards, communicator);
  DSFT_CHECK(all.size() == size, all.size(), " completions in a round of ", size);
  num_tokens_.resize(size);
  is_truncated_.resize(size);
  table_ = {.values = std::vector<double>(size * num_rewards), .num_rewards = static_cast<int64_t>(num_rewards)};
  for (const Judgement& judgement : all) {
    const size_t place = place_of(judgement.group, judgement.generation);
    DSFT_CHECK(place < size, "completion ", judgement.generation, " of group ", judgement.group);
    num_tokens_[place] = static_cast<double>(judgement.num_tokens);
    is_truncated_[place] = judgement.is_truncated;
    num_failed_ += judgement.has_failed;
    for (size_t f = 0; f < num_rewards; ++f)
      table_.values[place * num_rewards + f] =
          judgement.has_failed ? kDoesNotApply : judgement.rewards[f].value_or(kDoesNotApply);
  }
  advantages_ = compute_advantages(table_, {.num_generations = num_generations_,
                                            .weights = weights,
                                            .aggregation = config.multi_objective_aggregation,
                                            .scale = config.scale_rewards});
}

int64_t JudgedRound::num_tokens() const {
  return static_cast<int64_t>(std::accumulate(num_tokens_.begin(), num_tokens_.end(), 0.0));
}

std::map<std::string, double> JudgedRound::metrics(const std::vector<std::string>& names) const {
  std::map<std::string, double> metrics;
  metrics["reward"] = mean_of_scored(advantages_.rewards);
  metrics["reward_std"] = deviation_of_scored(advantages_.rewards);
  metrics["frac_reward_zero_std"] = advantages_.share_without_deviation;
  std::vector<double> column(num_tokens_.size());
  for (size_t f = 0; f < names.size(); ++f) {
    for (size_t i = 0; i < column.size(); ++i) column[i] = table_.values[i * names.size() + f];
    metrics["rewards/" + names[f] + "/mean"] = mean_of_scored(column);
    metrics["rewards/" + names[f] + "/std"] = deviation_of_scored(column);
  }
  std::vector<double> ended;
  for (size_t i = 0; i < num_tokens_.size(); ++i)
    if (!is_truncated_[i]) ended.push_back(num_tokens_[i]);
  add_lengths("length", num_tokens_, metrics);
  add_lengths("terminated_length", ended, metrics);
  metrics["completions/clipped_ratio"] =
      1 - static_cast<double>(ended.size()) / static_cast<double>(num_tokens_.size());
  metrics["rewards/failed"] = static_cast<double>(num_failed_);
  return metrics;
}

}  // namespace dsft::rl

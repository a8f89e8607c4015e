#include "rl/judged_round.h"

#include <torch/types.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace dsft::rl {
namespace {

constexpr double kDoesNotApply = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kFieldsBefore = 5;  // group, generation, tokens, truncated, failed

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
  const auto num_rewards = static_cast<int64_t>(weights.size()), fields = kFieldsBefore + num_rewards;
  at::Tensor sent = torch::empty({static_cast<int64_t>(own.size()), fields}, at::kDouble);
  auto* to = sent.data_ptr<double>();
  for (const Judgement& judgement : own) {
    *to++ = static_cast<double>(judgement.group);
    *to++ = static_cast<double>(judgement.generation);
    *to++ = static_cast<double>(judgement.num_tokens);
    *to++ = judgement.is_truncated;
    *to++ = judgement.has_failed;
    DSFT_CHECK(static_cast<int64_t>(judgement.rewards.size()) == num_rewards, judgement.rewards.size(), " rewards");
    for (const std::optional<double>& reward : judgement.rewards)
      *to++ = judgement.has_failed ? kDoesNotApply : reward.value_or(kDoesNotApply);
  }
  at::Tensor all = torch::empty({sent.size(0) * communicator.size(), fields}, at::kDouble);
  communicator.all_gather(all, sent);

  const auto size = static_cast<size_t>(batch.num_completions());
  DSFT_CHECK(all.size(0) == batch.num_completions(), all.size(0), " completions in a round of ", size);
  num_tokens_.resize(size);
  is_truncated_.resize(size);
  table_ = {.values = std::vector<double>(size * static_cast<size_t>(num_rewards)), .num_rewards = num_rewards};
  const auto* row = all.const_data_ptr<double>();
  for (size_t i = 0; i < size; ++i, row += fields) {
    const auto place =
        static_cast<size_t>(row[0]) * static_cast<size_t>(num_generations_) + static_cast<size_t>(row[1]);
    DSFT_CHECK(place < size, "completion ", row[1], " of group ", row[0]);
    num_tokens_[place] = row[2];
    is_truncated_[place] = row[3] != 0;
    num_failed_ += row[4] != 0;
    std::copy(row + kFieldsBefore, row + fields,
              table_.values.begin() + static_cast<std::ptrdiff_t>(place * static_cast<size_t>(num_rewards)));
  }
  advantages_ = compute_advantages(table_, {.num_generations = num_generations_,
                                            .weights = weights,
                                            .aggregation = config.multi_objective_aggregation,
                                            .scale = config.scale_rewards});
}

double JudgedRound::advantage_of(const Judgement& judgement) const {
  return advantages_.values[place_of(judgement.group, judgement.generation)];
}

double JudgedRound::reward_of(const Judgement& judgement) const {
  return advantages_.rewards[place_of(judgement.group, judgement.generation)];
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

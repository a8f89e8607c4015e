#include "rl/judgements.h"

#include <cstring>
#include <limits>
#include <string>

#include "base/error.h"
#include "comm/small_collectives.h"

namespace dsft::rl {
namespace {

constexpr double kNoReward = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kFixedFields = 5;  // group, generation, tokens, truncated, failed

std::string to_bytes(const std::vector<Judgement>& judgements, size_t num_rewards) {
  std::vector<double> numbers;
  for (const Judgement& judgement : judgements) {
    DSFT_CHECK(judgement.rewards.size() == num_rewards, judgement.rewards.size(), " rewards");
    numbers.insert(numbers.end(), {static_cast<double>(judgement.group), static_cast<double>(judgement.generation),
                                   static_cast<double>(judgement.num_tokens), judgement.is_truncated ? 1.0 : 0.0,
                                   judgement.has_failed ? 1.0 : 0.0});
    for (const std::optional<double>& reward : judgement.rewards) numbers.push_back(reward.value_or(kNoReward));
  }
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(double)};
}

void append_from(const std::string& bytes, size_t num_rewards, std::vector<Judgement>& judgements) {
  std::vector<double> numbers(bytes.size() / sizeof(double));
  std::memcpy(numbers.data(), bytes.data(), numbers.size() * sizeof(double));
  for (size_t i = 0; i < numbers.size(); i += kFixedFields + num_rewards) {
    Judgement judgement{.group = static_cast<int64_t>(numbers[i]),
                        .generation = static_cast<int64_t>(numbers[i + 1]),
                        .num_tokens = static_cast<int64_t>(numbers[i + 2]),
                        .is_truncated = numbers[i + 3] != 0,
                        .has_failed = numbers[i + 4] != 0,
                        .rewards = std::vector<std::optional<double>>(num_rewards)};
    for (size_t f = 0; f < num_rewards; ++f) {
      const double reward = numbers[i + kFixedFields + f];
      if (reward == reward) judgement.rewards[f] = reward;
    }
    judgements.push_back(std::move(judgement));
  }
}

}  // namespace

std::vector<Judgement> gather_judgements(const std::vector<Judgement>& own, size_t num_rewards,
                                         comm::Communicator& communicator) {
  std::vector<Judgement> all;
  for (const std::string& of_rank : comm::all_gather_bytes(communicator, to_bytes(own, num_rewards)))
    append_from(of_rank, num_rewards, all);
  return all;
}

}  // namespace dsft::rl

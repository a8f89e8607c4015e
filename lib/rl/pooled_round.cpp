#include "rl/pooled_round.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "comm/small_collectives.h"

namespace dsft::rl {
namespace {

std::vector<double> to_numbers(const PooledAnswer& answer, size_t num_agents) {
  std::vector<double> numbers = {static_cast<double>(answer.prompt), answer.score, answer.loss, answer.num_tokens};
  const size_t num_fixed = numbers.size();
  DSFT_CHECK(answer.gradient.empty() || answer.gradient.size() == num_agents, answer.gradient.size(), " gradients");
  numbers.insert(numbers.end(), answer.gradient.begin(), answer.gradient.end());
  numbers.resize(num_fixed + num_agents);
  return numbers;
}

PooledAnswer to_answer(const std::vector<double>& numbers) {
  return {.prompt = static_cast<int64_t>(numbers[0]),
          .score = numbers[1],
          .loss = numbers[2],
          .num_tokens = numbers[3],
          .gradient = {numbers.begin() + 4, numbers.end()}};
}

std::vector<PooledAnswer> gather(const std::vector<PooledAnswer>& own, size_t num_agents,
                                 comm::Communicator& communicator) {
  std::string bytes;
  for (const PooledAnswer& answer : own) {
    const std::vector<double> numbers = to_numbers(answer, num_agents);
    bytes.append(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(double));
  }
  std::vector<PooledAnswer> all;
  std::vector<double> numbers = to_numbers({}, num_agents);
  const size_t size = numbers.size() * sizeof(double);
  for (const std::string& of_rank : comm::all_gather_bytes(communicator, bytes)) {
    for (size_t begin = 0; begin < of_rank.size(); begin += size) {
      std::memcpy(numbers.data(), of_rank.data() + begin, size);
      all.push_back(to_answer(numbers));
    }
  }
  return all;
}

}  // namespace

PooledRound::PooledRound(const std::vector<PooledAnswer>& own, int64_t num_agents, comm::Communicator& communicator)
    : gradient_(static_cast<size_t>(num_agents)) {
  std::vector<PooledAnswer> all = gather(own, gradient_.size(), communicator);
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.prompt < b.prompt; });
  for (const PooledAnswer& answer : all) {
    if (!std::isnan(answer.score)) {
      num_right_ += answer.score >= 1 ? 1 : 0;
      ++num_judged_;
    }
    loss_ += answer.loss;
    num_tokens_ += answer.num_tokens;
    for (size_t a = 0; a < gradient_.size(); ++a) gradient_[a] += answer.gradient[a];
  }
}

std::map<std::string, double> PooledRound::metrics(bool are_learned) const {
  std::map<std::string, double> metrics = {{"ensemble/accuracy", num_right_ / num_judged_}};
  if (are_learned) metrics["ensemble/loss"] = loss_ / num_tokens_;
  return metrics;
}

std::vector<double> PooledRound::gradient() const {
  if (num_tokens_ == 0) return {};
  std::vector<double> mean = gradient_;
  for (double& value : mean) value /= num_tokens_;
  return mean;
}

}  // namespace dsft::rl

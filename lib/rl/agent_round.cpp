#include "rl/agent_round.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "comm/small_collectives.h"

namespace dsft::rl {
namespace {

constexpr double kNotJudged = std::numeric_limits<double>::quiet_NaN();

// 1 or 0; not judged where the reward is not there.
double is_right(double reward) {
  if (std::isnan(reward)) return kNotJudged;
  return reward >= 1 ? 1 : 0;
}

}  // namespace

AgentRound::AgentRound(const std::vector<Slot>& slots, const Ballot& answers, const EnsembleSettings& settings,
                       double tolerance, const GenerationBatch& batch, comm::Communicator& communicator)
    : settings_(settings), batch_(batch), answers_(static_cast<size_t>(batch.num_completions())) {
  gather(slots, answers, communicator);
  count_votes(tolerance);
}

void AgentRound::gather(const std::vector<Slot>& slots, const Ballot& answers, comm::Communicator& communicator) {
  auto own = nlohmann::json::array();
  for (size_t i = 0; i < slots.size(); ++i)
    if (answers[i]) own.push_back({slots[i].group, slots[i].generation, *answers[i]});
  const std::string sent = own.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  for (const std::string& of_rank : comm::all_gather_bytes(communicator, sent)) {
    for (const auto& entry : nlohmann::json::parse(of_rank)) {
      const size_t place = place_of(entry[0].get<int64_t>(), entry[1].get<int64_t>());
      DSFT_CHECK(place < answers_.size(), "an answer at ", place, " of ", answers_.size());
      answers_[place] = entry[2].get<std::string>();
    }
  }
}

void AgentRound::count_votes(double tolerance) {
  const std::vector<double> weights = settings_.weights();
  agreements_.resize(answers_.size());
  for (int64_t prompt = 0; prompt < batch_.num_prompts(); ++prompt) {
    for (int64_t generation = 0; generation < batch_.num_generations; ++generation) {
      Ballot ballot;
      for (int64_t agent = 0; agent < batch_.num_agents; ++agent)
        ballot.push_back(answers_[place_of(prompt * batch_.num_agents + agent, generation)]);
      const std::vector<double> shares = agreements(ballot, weights, tolerance);
      for (int64_t agent = 0; agent < batch_.num_agents; ++agent)
        agreements_[place_of(prompt * batch_.num_agents + agent, generation)] = shares[static_cast<size_t>(agent)];
      elected_.push_back(elect(ballot, weights, tolerance));
    }
  }
}

double AgentRound::is_vote_right(size_t vote, const JudgedRound& judged, size_t math_answer) const {
  const auto number = static_cast<int64_t>(vote);
  const int64_t first_group = number / batch_.num_generations * batch_.num_agents;
  const auto reward_of = [&](int64_t agent) {
    return judged.reward(first_group + agent, number % batch_.num_generations, math_answer);
  };
  if (elected_[vote]) return is_right(reward_of(static_cast<int64_t>(*elected_[vote])));
  for (int64_t agent = 0; agent < batch_.num_agents; ++agent)
    if (!std::isnan(reward_of(agent))) return 0;
  return kNotJudged;
}

std::map<std::string, double> AgentRound::metrics(const JudgedRound& judged, std::optional<size_t> math_answer) const {
  std::vector<std::vector<double>> agreed(settings_.agents.size()), right(settings_.agents.size());
  std::vector<double> elected_right;
  for (int64_t group = 0; group < batch_.num_prompts() * batch_.num_agents; ++group) {
    const auto agent = static_cast<size_t>(batch_.agent_of(group));
    for (int64_t generation = 0; generation < batch_.num_generations; ++generation) {
      agreed[agent].push_back(agreements_[place_of(group, generation)]);
      if (math_answer) right[agent].push_back(is_right(judged.reward(group, generation, *math_answer)));
    }
  }
  for (size_t vote = 0; math_answer && vote < elected_.size(); ++vote)
    elected_right.push_back(is_vote_right(vote, judged, *math_answer));
  std::map<std::string, double> metrics = {{"ensemble/consistency", mean_of_scored(agreements_)}};
  if (math_answer && !settings_.has_pool()) metrics["ensemble/accuracy"] = mean_of_scored(elected_right);
  for (size_t agent = 0; agent < agreed.size(); ++agent) {
    const std::string name = "agents/" + settings_.agents[agent].name;
    metrics[name + "/consistency"] = mean_of_scored(agreed[agent]);
    if (math_answer) metrics[name + "/accuracy"] = mean_of_scored(right[agent]);
  }
  return metrics;
}

}  // namespace dsft::rl

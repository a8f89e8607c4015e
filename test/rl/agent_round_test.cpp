// What a round of agents reports of answers that can be judged and of rows that cannot.
#include "rl/agent_round.h"

#include <cmath>

#include "catch_amalgamated.hpp"
#include "comm/single_process_communicator.h"

using namespace dsft;

TEST_CASE("A vote counts prompts that can be judged: no answer is wrong, no right answer is no vote", "[rl]") {
  constexpr int64_t kPrompts = 3, kAgents = 2, kGenerations = 2;
  const rl::GenerationBatch batch{.update = {.per_micro_batch = kPrompts * kAgents * kGenerations},
                                  .num_agents = kAgents,
                                  .num_generations = kGenerations};
  rl::EnsembleSettings settings;
  settings.agents = {{.name = "a", .system_prompt = "A"}, {.name = "b", .system_prompt = "B"}};
  std::vector<rl::Slot> slots;
  std::vector<rl::Judgement> judgements;
  rl::Ballot answers;
  for (int64_t group = 0; group < kPrompts * kAgents; ++group) {
    for (int64_t generation = 0; generation < kGenerations; ++generation) {
      // of the first prompt the second answers are missing; the last prompt has no right answer
      const int64_t prompt = group / kAgents;
      const bool is_missing = prompt == 0 && generation == 1, is_judged = prompt != 2;
      slots.push_back({.group = group, .generation = generation});
      answers.push_back(is_missing || !is_judged ? std::nullopt : std::optional<std::string>("5"));
      judgements.push_back({.group = group,
                            .generation = generation,
                            .rewards = {is_judged ? std::optional(is_missing ? 0.0 : 1.0) : std::nullopt}});
    }
  }
  const auto alone = comm::make_single_process_communicator();
  const rl::AgentRound round(slots, answers, settings, 1e-6, batch, *alone);
  const rl::JudgedRound judged(judgements, {}, {1.0}, batch, *alone);
  const auto metrics = round.metrics(judged, 0);
  CHECK(metrics.at("ensemble/accuracy") == 0.75);  // of four votes; it was 0.5 of six
  CHECK(metrics.at("agents/a/accuracy") == 0.75);
}

#include "rl/judged_round.h"

#include <cmath>

#include "catch_amalgamated.hpp"
#include "comm/single_process_communicator.h"

using namespace dsft;

TEST_CASE("A completion of which a reward failed is counted and in no mean, and none that failed is a number too",
          "[rl]") {
  const int64_t num_failed = GENERATE(0, 1, 4);
  const rl::GenerationBatch batch{.update = {.per_micro_batch = 4}, .num_generations = 4};
  std::vector<rl::Judgement> judgements;
  for (int64_t i = 0; i < 4; ++i)
    judgements.push_back({.generation = i,
                          .num_tokens = 3,
                          .has_failed = i < num_failed,
                          .rewards = {static_cast<double>(i), i < num_failed ? std::nullopt : std::optional(1.0)}});
  const auto alone = comm::make_single_process_communicator();
  const rl::JudgedRound judged(judgements, {}, {1.0, 1.0}, batch, *alone);
  const auto metrics = judged.metrics({"a", "b"});
  CHECK(metrics.at("rewards/failed") == num_failed);
  if (num_failed == 0) CHECK(metrics.at("reward") == 2.5);
  if (num_failed == 1) CHECK(metrics.at("rewards/a/mean") == 2);
  if (num_failed == 4) CHECK(std::isnan(metrics.at("reward")));
  for (int64_t i = 0; i < num_failed; ++i) CHECK(judged.advantage_of(/*group=*/0, i) == 0);
}

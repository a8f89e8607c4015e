#include "rl/rollout_plan.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "catch_amalgamated.hpp"
#include "support/require_error.h"

namespace dsft::rl {
namespace {

GenerationBatch batch_of(int64_t per_micro_batch, int64_t accumulation, int64_t ranks, int64_t steps,
                         int64_t iterations = 1) {
  return {.update = {per_micro_batch, accumulation, ranks},
          .num_generations = 4,
          .steps_per_generation = steps,
          .num_iterations = iterations};
}

data::EpochPlanOptions order(bool shuffle) {
  return {.seed = 7, .shuffle = shuffle, .packing = false};
}

using Name = std::tuple<int64_t, int64_t>;  // row, generation

// What update `number` of a round takes, over all ranks.
std::multiset<Name> of_update(const RolloutPlan& plan, int64_t epoch, int64_t round, int64_t number) {
  std::multiset<Name> names;
  const UpdateRows& update = plan.batch().update;
  for (int64_t rank = 0; rank < update.num_ranks; ++rank) {
    const std::vector<Slot> slots = plan.slots(epoch, round, rank);
    for (int64_t i = 0; i < update.accumulation * update.per_micro_batch; ++i) {
      const Slot& slot = slots.at(static_cast<size_t>(number * update.accumulation * update.per_micro_batch + i));
      names.emplace(slot.row, slot.generation);
    }
  }
  return names;
}

}  // namespace

TEST_CASE("Rounds take each prompt once an epoch, in whole groups, as TRL's RepeatSampler", "[rl]") {
  const RolloutPlan plan(batch_of(4, 2, 2, 2), order(/*shuffle=*/true), 19);
  REQUIRE(plan.rounds_per_epoch() == 4);  // 16 of 19 prompts
  CHECK(plan.updates_per_epoch() == 4);
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    std::multiset<int64_t> rows;
    std::set<int64_t> samples;
    for (int64_t round = 0; round < 4; ++round) {
      std::multiset<Name> names = of_update(plan, epoch, round, 0);
      for (const auto& [row, generation] : names) {
        rows.insert(row);
        CHECK((generation >= 0 && generation < 4));
        CHECK(names.count({row, generation}) == 1);
      }
      for (int64_t rank = 0; rank < 2; ++rank)
        for (const Slot& slot : plan.slots(epoch, round, rank)) samples.insert(slot.sample);
    }
    CHECK(rows.size() == 64);
    for (const int64_t row : rows) CHECK(rows.count(row) == 4);
    CHECK(samples.size() == 64);
    CHECK(*samples.rbegin() == 63);
  }
  CHECK(plan.slots(0, 0, 0)[0].row != plan.slots(1, 0, 0)[0].row);
}

TEST_CASE("An update has the same completions whatever the number of ranks", "[rl]") {
  for (const int64_t updates_of_round : {1, 2}) {
    const RolloutPlan alone(batch_of(8, 2, 1, 2 * updates_of_round), order(true), 40);
    const RolloutPlan two(batch_of(4, 2, 2, 2 * updates_of_round), order(true), 40);
    const RolloutPlan four(batch_of(2, 2, 4, 2 * updates_of_round), order(true), 40);
    for (int64_t round = 0; round < 3; ++round)
      for (int64_t update = 0; update < updates_of_round; ++update) {
        const auto expected = of_update(alone, 0, round, update);
        CHECK(of_update(two, 0, round, update) == expected);
        CHECK(of_update(four, 0, round, update) == expected);
      }
  }
}

TEST_CASE("Updates that take a part of a round have the same completions on any number of ranks", "[rl]") {
  const auto first_update = [](const RolloutPlan& plan) {  // a whole round of three micro-batches and one of the next
    std::multiset<Name> names;
    const UpdateRows& update = plan.batch().update;
    for (int64_t rank = 0; rank < update.num_ranks; ++rank) {
      for (const Slot& slot : plan.slots(0, 0, rank)) names.emplace(slot.row, slot.generation);
      const std::vector<Slot> next = plan.slots(0, 1, rank);
      for (int64_t i = 0; i < update.per_micro_batch; ++i)
        names.emplace(next[static_cast<size_t>(i)].row, next[static_cast<size_t>(i)].generation);
    }
    return names;
  };
  CHECK(first_update(RolloutPlan(batch_of(4, 4, 2, 3), order(true), 30)) ==
        first_update(RolloutPlan(batch_of(8, 4, 1, 3), order(true), 30)));
}

TEST_CASE("A round that is one update has a rank answer its own prompts", "[rl]") {
  const RolloutPlan plan(batch_of(4, 4, 2, 4), order(/*shuffle=*/false), 16);
  const std::vector<Slot> slots = plan.slots(0, 1, 1);
  REQUIRE(slots.size() == 16);
  for (size_t i = 0; i < slots.size(); ++i) {
    CHECK(slots[i].row == static_cast<int64_t>(8 + 4 + i / 4));
    CHECK(slots[i].group == static_cast<int64_t>(4 + i / 4));
    CHECK(slots[i].generation == static_cast<int64_t>(i % 4));
  }
}

TEST_CASE("A round asks every agent each of its prompts", "[rl]") {
  GenerationBatch batch = batch_of(12, 1, 2, 1);
  batch.num_agents = 3;
  const RolloutPlan plan(batch, order(/*shuffle=*/false), 5);
  CHECK(plan.rounds_per_epoch() == 2);
  for (int64_t rank = 0; rank < 2; ++rank) {
    const std::vector<Slot> slots = plan.slots(0, 1, rank);
    REQUIRE(slots.size() == 12);
    for (size_t i = 0; i < slots.size(); ++i) {
      CHECK(slots[i].row == (2 + rank) * 3 + static_cast<int64_t>(i / 4));  // a row of the data has three prompts
      CHECK(slots[i].group == rank * 3 + static_cast<int64_t>(i / 4));
    }
  }
}

TEST_CASE("Updates of an epoch: each completion as often as it is used, the last one perhaps short", "[rl]") {
  CHECK(RolloutPlan(batch_of(4, 2, 1, 4, 3), order(true), 12).updates_per_epoch() == 3 * 4 * 3 / 2);
  CHECK(RolloutPlan(batch_of(4, 8, 1, 2, 1), order(true), 10).updates_per_epoch() == 2);  // 5 rounds x 2 steps
  test::require_error(ErrorKind::kUsage, {"3 rows an epoch", "takes 4"},
                      [] { RolloutPlan(batch_of(8, 2, 1, 2), order(true), 3); });
}

}  // namespace dsft::rl

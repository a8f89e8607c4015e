#include "rl/generation_batch.h"

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "generate/sample_stream.h"
#include "support/require_error.h"

using namespace dsft;
using rl::GrpoConfig;
using rl::plan_generation;

TEST_CASE("A round of sampling fills gradient_accumulation_steps micro-batches unless the recipe says otherwise",
          "[rl]") {
  const auto batch = plan_generation({}, {.per_micro_batch = 8, .accumulation = 4, .num_ranks = 2});
  CHECK(batch.steps_per_generation == 4);
  CHECK(batch.num_completions() == 64);
  CHECK(batch.num_prompts() == 8);
  CHECK(batch.is_on_policy());
  CHECK(
      batch.describe() ==
      "8 prompts x 8 completions = 64 rows = 8 (micro-batch) x 4 (steps of a generation) x 2 (ranks); an update takes "
      "64 of them; on-policy: every ratio is 1");

  const auto by_size = plan_generation({.generation_batch_size = 128}, {8, 4, 2});
  CHECK(by_size.steps_per_generation == 8);
  CHECK(by_size.num_prompts() == 16);
  CHECK_FALSE(by_size.is_on_policy());  // its second update is of another policy
  CHECK(plan_generation({.steps_per_generation = 2}, {8, 4, 2}).is_on_policy());
  CHECK_FALSE(plan_generation({.num_iterations = 2}, {8, 4, 2}).is_on_policy());
  // 2 steps x 2 uses are one update of 4 micro-batches, all by the policy that sampled
  CHECK(plan_generation({.steps_per_generation = 2, .num_iterations = 2}, {8, 4, 2}).is_on_policy());
}

TEST_CASE("A loss that TRL divides by the tokens of a whole round is told where an update takes another number",
          "[rl]") {
  using rl::LossType;
  const auto said = [](LossType type, const GrpoConfig& config, const rl::UpdateRows& rows) {
    return rl::explain_divisor(type, plan_generation(config, rows));
  };
  // the types of GRPOTrainer._compute_loss that divide by num_items_in_batch
  for (const LossType type : {LossType::kDapo, LossType::kCispo, LossType::kVespo}) {
    CHECK_THAT(said(type, {.steps_per_generation = 8}, {8, 4, 2}),
               Catch::Matchers::StartsWith("a round of sampling has 8 micro-batches of a rank (steps_per_generation), "
                                           "and an update takes 4 (gradient_accumulation_steps): "));
    CHECK(said(type, {.steps_per_generation = 2}, {8, 4, 2}) != "");
    CHECK(said(type, {.num_iterations = 2}, {8, 4, 2}) == "");
    CHECK(said(type, {.generation_batch_size = 64}, {8, 4, 2}) == "");  // on one rank it would be two updates
    CHECK(said(type, {.generation_batch_size = 64}, {8, 4, 1}) != "");
  }
  for (const LossType type : {LossType::kGrpo, LossType::kBnpo, LossType::kDrGrpo, LossType::kSapo, LossType::kLuspo})
    CHECK(said(type, {.steps_per_generation = 8}, {8, 4, 2}) == "");
}

TEST_CASE("Each agent answers each prompt with a group of its own", "[rl]") {
  rl::GrpoConfig config{.num_generations = 4};
  config.ensemble.agents = {{"a", "A"}, {"b", "B"}, {"c", "C"}};
  const auto batch = plan_generation(config, {.per_micro_batch = 12, .accumulation = 2, .num_ranks = 2});
  CHECK(batch.num_prompts() == 4);
  CHECK_THAT(batch.describe(), Catch::Matchers::StartsWith("4 prompts x 3 agents x 4 completions = 48 rows = 12"));
  test::require_error(ErrorKind::kUsage,
                      {"16 completions", "no whole prompts of 3 agents x grpo.num_generations 4 = 12 completions"},
                      [&] {
                        plan_generation(config, {16, 1, 1});
                      });
}

TEST_CASE("A group may span ranks and micro-batches", "[rl]") {
  CHECK(plan_generation({.num_generations = 8}, {.per_micro_batch = 1, .accumulation = 1, .num_ranks = 8})
            .num_prompts() == 1);
  CHECK(plan_generation({.num_generations = 6}, {2, 3, 1}).num_prompts() == 1);
}

TEST_CASE("Ranks on which a round is possible are those that plan_generation takes", "[rl]") {
  const auto taken = [](const GrpoConfig& config, const rl::UpdateRows& rows) {
    std::vector<int64_t> ranks;
    for (int64_t n = 1; n <= 24; ++n) {
      try {
        plan_generation(config, {rows.per_micro_batch, rows.accumulation, n});
        ranks.push_back(n);
      } catch (const Error&) {
        continue;
      }
    }
    return ranks;
  };
  const GrpoConfig of_groups{.num_generations = 8};
  CHECK(rl::possible_ranks(of_groups, {4, 1, 1}, 8) == std::vector<int64_t>{2, 4, 6, 8});
  CHECK(rl::possible_ranks(of_groups, {3, 2, 1}, 8) == std::vector<int64_t>{4, 8});
  CHECK(rl::possible_ranks(of_groups, {1, 1, 1}, 7).empty());
  CHECK(rl::possible_ranks({.generation_batch_size = 24}, {4, 1, 1}, 24) == std::vector<int64_t>{1, 2, 3, 6});
  CHECK(rl::possible_ranks({.generation_batch_size = 24}, {5, 1, 1}, 24).empty());
  GrpoConfig of_agents{.num_generations = 4, .steps_per_generation = 2};
  of_agents.ensemble.agents = {{"a", "A"}, {"b", "B"}, {"c", "C"}};
  for (const GrpoConfig& config : {of_groups, GrpoConfig{.generation_batch_size = 48}, of_agents})
    for (const int64_t per_micro_batch : {1, 2, 3, 4, 5, 6, 8, 9})
      for (const int64_t accumulation : {1, 2, 3})
        CHECK(rl::possible_ranks(config, {per_micro_batch, accumulation, 1}, 24) ==
              taken(config, {per_micro_batch, accumulation, 1}));
}

TEST_CASE("A batch that is no whole groups or micro-batches is one sentence with its numbers", "[rl]") {
  test::require_error(
      ErrorKind::kUsage,
      {"12 completions (per_device_train_batch_size 3 x 2 ranks x 2 steps per generation), which are no "
       "whole groups of grpo.num_generations 8"},
      [] {
        plan_generation({}, {3, 2, 2});
      });
  test::require_error(ErrorKind::kUsage,
                      {"grpo.generation_batch_size 24 is no multiple of per_device_train_batch_size 8 x 2 ranks = 16"},
                      [] {
                        plan_generation({.generation_batch_size = 24}, {8, 1, 2});
                      });
  test::require_error(ErrorKind::kUsage, {"write one"}, [] {
    plan_generation({.generation_batch_size = 16, .steps_per_generation = 1}, {8, 1, 2});
  });
}

TEST_CASE("Random numbers have a name for as many completions of a prompt as a recipe may ask for", "[rl]") {
  constexpr uint64_t kMost = rl::kMostCompletionsOfPrompt;
  CHECK_NOTHROW(generate::sample_stream({.generation = kMost - 1}));
  test::require_error(ErrorKind::kData, {"generation number 16384"},
                      [] { generate::sample_stream({.generation = kMost}); });
}

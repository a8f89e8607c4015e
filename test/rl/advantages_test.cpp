// Advantages beside those of TRL's own code (scripts/goldens/grpo_advantages.py).
#include "rl/advantages.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "catch_amalgamated.hpp"
#include "support/fixtures.h"

using namespace dsft;

TEST_CASE("Advantages equal TRL's, for both aggregations, every scaling and rewards that do not apply", "[rl]") {
  const auto golden = nlohmann::json::parse(test::read_fixture("rl/advantages.json"));
  REQUIRE(golden["cases"].size() == 32);
  for (const auto& item : golden["cases"]) {
    const auto aggregation = item["aggregation"].get<std::string>(), scale = item["scale_rewards"].get<std::string>();
    INFO(item["name"] << ", " << aggregation << ", " << scale);
    rl::RewardTable table;
    table.num_rewards = static_cast<int64_t>(item["weights"].size());
    for (const auto& row : item["rewards"])
      for (const auto& value : row)
        table.values.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
    const rl::AdvantageRules rules{.num_generations = item["num_generations"],
                                   .weights = item["weights"],
                                   .aggregation = config::from_word<rl::Aggregation>(aggregation).value(),
                                   .scale = config::from_word<rl::ScaleRewards>(scale).value()};
    const rl::Advantages result = rl::compute_advantages(table, rules);
    REQUIRE(result.values.size() == item["advantages"].size());
    for (size_t i = 0; i < result.values.size(); ++i) {
      INFO("completion " << i);
      CHECK(std::abs(result.values[i] - item["advantages"][i].get<double>()) <= 1e-6);
    }
    CHECK(std::abs(result.share_without_deviation - item["frac_reward_zero_std"].get<double>()) <= 1e-6);
  }
}

TEST_CASE("A completion without a reward has no sum and no advantage", "[rl]") {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const rl::Advantages result = rl::compute_advantages({{none, 2, 4, 0}, 1}, {.num_generations = 4});
  CHECK(std::isnan(result.rewards[0]));
  CHECK(result.values[0] == 0);
  CHECK(rl::mean_of_scored(result.rewards) == 2);
  CHECK(rl::deviation_of_scored(result.rewards) == 2);
}

// Keys of advantages and of the loss that change what a run of GRPO learns.
#include <cmath>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/grpo_job.h"

namespace dsft::test {
namespace {

using nlohmann::json;

constexpr size_t kGroup = 4, kRows = 8;

// Of the values [begin, end): each less their mean, divided by their deviation (of the number less one) + 1e-4.
void normalise(std::vector<double>& values, size_t begin, size_t end) {
  const auto count = static_cast<double>(end - begin);
  double mean = 0, squares = 0;
  for (size_t i = begin; i < end; ++i) mean += values[i] / count;
  for (size_t i = begin; i < end; ++i) squares += (values[i] - mean) * (values[i] - mean);
  for (size_t i = begin; i < end; ++i) values[i] = (values[i] - mean) / (std::sqrt(squares / (count - 1)) + 1e-4);
}

// GDPO: each reward normalised in its group, the weighted sum over the round.
std::vector<double> normalised_then_summed(const std::vector<json>& samples) {
  std::vector<double> sums(samples.size(), 0.0);
  for (const char* name : {"length", "unique_characters"}) {
    std::vector<double> rewards;
    for (const json& sample : samples) rewards.push_back(sample.at("rewards").at(name));
    for (size_t begin = 0; begin < rewards.size(); begin += kGroup) normalise(rewards, begin, begin + kGroup);
    for (size_t i = 0; i < rewards.size(); ++i) sums[i] += rewards[i];
  }
  normalise(sums, 0, sums.size());
  return sums;
}

// Two updates by the same completions: the second one is off-policy.
struct TwoUpdates {
  std::vector<json> lines, samples;
};

TwoUpdates run_two_updates(const GrpoJob& job, const std::string& output, const std::string& key, double first_weight,
                           double second_weight) {
  const ProgramRun run = job.run(1, output,
                                 {"training.max_steps=2", "training.learning_rate=3.0e-2",
                                  "training.per_device_train_batch_size=" + std::to_string(kRows), key});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  TwoUpdates made{.lines = job.metrics(output), .samples = read_lines(job.folder / output / "completions.jsonl")};
  REQUIRE(made.lines.size() == 2);
  REQUIRE(made.samples.size() == kRows);
  for (const json& line : made.lines) {
    for (const auto& [name, value] : line.items()) {
      INFO(name);
      CHECK(value.is_number());
    }
    CHECK(line.at("reward").get<double>() ==
          Catch::Approx(first_weight * line.at("rewards/length/mean").get<double>() +
                        second_weight * line.at("rewards/unique_characters/mean").get<double>()));
  }
  return made;
}

}  // namespace

TEST_CASE("Keys of advantages, ratios and masks change what is learned, and nothing before", "[end_to_end]") {
  const GrpoJob job(
      "num_generations: 4, max_completion_length: 12, loss_type: grpo, num_iterations: 2, "
      "rewards: [{name: length, unit: characters, max: 1, ramp: 50}, unique_characters]");
  const auto run = [&](const std::string& output, const std::string& key, double first = 1, double second = 1) {
    return run_two_updates(job, output, key, first, second);
  };
  const auto norm = [](const TwoUpdates& made, size_t update) {
    return made.lines[update].at("grad_norm").get<double>();
  };
  const auto loss = [](const TwoUpdates& made, size_t update) { return made.lines[update].at("loss").get<double>(); };
  const auto differ = [](double a, double b) { return std::abs(a - b) > 0.01 * std::abs(b); };
  const TwoUpdates usual = run("usual", "grpo.multi_objective_aggregation=sum_then_normalize");

  const TwoUpdates gdpo = run("gdpo", "grpo.multi_objective_aggregation=normalize_then_sum");
  const std::vector<double> expected = normalised_then_summed(gdpo.samples);
  for (size_t i = 0; i < kRows; ++i) CHECK(gdpo.samples[i].at("advantage").get<double>() == Catch::Approx(expected[i]));
  CHECK(differ(norm(gdpo, 0), norm(usual, 0)));

  const TwoUpdates weighted = run("weighted", "grpo.reward_weights=[0.5, 2]", 0.5, 2);
  CHECK(differ(norm(weighted, 0), norm(usual, 0)));

  // on-policy nothing is masked, and with answers of one length the mean of their ratios has the gradient of each
  const TwoUpdates masked = run("masked", "grpo.off_policy_mask_threshold=1.0e-3");
  const TwoUpdates sequences = run("sequences", "grpo.importance_sampling_level=sequence");
  for (const TwoUpdates* made : {&masked, &sequences}) {
    CHECK(norm(*made, 0) == Catch::Approx(norm(usual, 0)).epsilon(1e-4));
    CHECK(differ(loss(*made, 1), loss(usual, 1)));
  }
  // what is masked has a negative advantage and so a loss above 0
  CHECK(loss(masked, 1) < loss(usual, 1));
}

}  // namespace dsft::test

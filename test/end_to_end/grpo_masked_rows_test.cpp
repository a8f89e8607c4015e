// Completions that a run samples and does not train on: what is left is what the numbers are of.
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/grpo_job.h"
#include "end_to_end/reward_program.h"

namespace dsft::test {
namespace {

constexpr int kLongest = 12;

const std::string kPoisoned = "What is number 3?";

/// A reward program that gives no number where it sees one of the prompts.
std::string program(const TempDir& folder) {
  const std::string command =
      write_reward_program(folder, "judged",
                           "rewards = ['none' if 'number 3?' in json.dumps(p) else len(c) % 5 / 5\n"
                           "           for p, c in zip(r['prompts'], r['completion_ids'])]");
  return "{command: " + command + ", name: judged, workers: 8}";
}

std::string rows() {
  std::string rows;
  for (int i = 0; i < 8; ++i) {
    const std::string question = "What is number " + std::to_string(i) + "?";
    rows += nlohmann::json{{"prompt", {{{"role", "user"}, {"content", question}}}}}.dump() + "\n";
  }
  return rows;
}

struct Judged {
  double reward = 0, advantage = 0, num_tokens = 0;
};

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double deviation_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += (value - mean_of(values)) * (value - mean_of(values));
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

}  // namespace

TEST_CASE("A completion whose reward fails is masked and counted, and the update is that of the others",
          "[end_to_end]") {
  const TempDir programs;
  // the length reward tells how many tokens a completion has: 1 - tokens / 100
  const GrpoJob job("num_generations: 4, max_completion_length: " + std::to_string(kLongest) +
                    ", stop_strings: [e], loss_type: dr_grpo, scale_rewards: batch, max_failed_rewards: 0.9, rewards: "
                    "[{name: length, unit: tokens, max: 0, ramp: 100}, " +
                    program(programs) + "]");
  job.folder.write("rows.jsonl", rows());
  const ProgramRun run = job.run(
      1, "run",
      {"training.max_steps=2", "training.per_device_train_batch_size=32", "data.train=[" + job.in("rows.jsonl") + "]"});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK_THAT(run.err, Catch::Matchers::ContainsSubstring("\"none\" as reward"));
  const auto metrics = job.metrics("run");
  REQUIRE(metrics.size() == 2);
  const auto completions = read_lines(job.folder / "run" / "completions.jsonl");
  REQUIRE(completions.size() == 64);
  for (const auto& line : metrics) {
    INFO(line.dump());
    std::map<std::string, std::vector<Judged>> groups;
    std::vector<double> rewards, lengths;
    int num_failed = 0;
    for (const auto& sample : completions) {
      if (sample.at("step") != line.at("step")) continue;
      const std::string asked = sample.at("prompt").at(0).at("content");
      const double length = sample.at("rewards").at("length").get<double>();
      const bool has_failed = sample.at("rewards").at("judged").is_null();
      if (asked == kPoisoned) CHECK(has_failed);
      if (has_failed) {
        CHECK(sample.at("reward").is_null());
        CHECK(sample.at("advantage") == 0);
        ++num_failed;
        continue;
      }
      groups[asked].push_back(
          {sample.at("reward").get<double>(), sample.at("advantage").get<double>(), std::round(100 * (1 - length))});
      rewards.push_back(groups[asked].back().reward);
      lengths.push_back(length);
    }
    REQUIRE(groups.size() == 7);
    CHECK(num_failed == 4);
    CHECK(line.at("rewards/failed") == num_failed);
    CHECK(line.at("reward").get<double>() == Catch::Approx(mean_of(rewards)));
    CHECK(line.at("reward_std").get<double>() == Catch::Approx(deviation_of(rewards)));
    CHECK(line.at("rewards/length/mean").get<double>() == Catch::Approx(mean_of(lengths)));
    double loss = 0;
    for (const auto& [asked, group] : groups) {
      REQUIRE(group.size() == 4);
      std::vector<double> of_group;
      for (const Judged& judged : group) of_group.push_back(judged.reward);
      for (const Judged& judged : group) {
        const double advantage = (judged.reward - mean_of(of_group)) / (deviation_of(rewards) + 1e-4);
        CHECK(judged.advantage == Catch::Approx(advantage).margin(1e-9));
        loss -= advantage * judged.num_tokens / (static_cast<double>(rewards.size()) * kLongest);
      }
    }
    REQUIRE(std::abs(loss) > 1e-3);  // lengths differ
    CHECK(line.at("loss").get<double>() == Catch::Approx(loss).epsilon(1e-4).margin(1e-6));
  }
}

TEST_CASE("A run of which every answer is cut and masked moves nothing, and goes on", "[end_to_end]") {
  const std::string type = GENERATE("dapo", "grpo");
  const GrpoJob job("num_generations: 4, max_completion_length: 3, loss_type: " + type +
                    ", rewards: [unique_characters, {name: length, unit: characters, max: 1, ramp: 50}]");
  const std::vector<std::string> sizes = {"training.max_steps=2", "training.per_device_train_batch_size=8"};
  std::vector<std::string> masked = sizes;
  masked.emplace_back("grpo.mask_truncated_completions=true");
  REQUIRE(job.run(1, "plain", sizes).exit_code == 0);
  const ProgramRun run = job.run(1, "masked", masked);
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  REQUIRE(job.metrics("masked").size() == 2);
  CHECK(job.metrics("plain")[0].at("grad_norm").get<double>() > 0);
  for (const auto& line : job.metrics("masked")) {
    INFO(line.dump());
    REQUIRE(line.at("completions/clipped_ratio") == 1);
    CHECK(line.at("reward_std").get<double>() > 0);
    CHECK(line.at("loss") == 0);
    CHECK(line.at("grad_norm") == 0);
    CHECK(line.at("rewards/failed") == 0);
  }
}

}  // namespace dsft::test

// What GRPO's keys of sampling do to completions, and what rewards do not do to sampling.
#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/grpo_job.h"
#include "end_to_end/reward_program.h"

namespace dsft::test {
namespace {

using nlohmann::json;

// grpo.rewards of one program, which gives `expression` of the token ids of a completion; `before` is done first, for
// each request.
std::string program_reward(const GrpoJob& job, const std::string& name, const std::string& expression,
                           const std::string& before = "pass", const std::string& keys = "") {
  const std::string command = write_reward_program(
      job.folder, name, before + "\nrewards = [" + expression + " for ids in r['completion_ids']]");
  return "grpo.rewards=[{command: '" + command + "', name: " + name + keys + "}]";
}

std::vector<json> finished(const GrpoJob& job, const std::string& output, std::vector<std::string> settings) {
  settings.emplace_back("training.per_device_train_batch_size=8");
  const ProgramRun run = job.run(1, output, settings);
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  return job.metrics(output);
}

double least(const std::vector<json>& lines, const char* name) {
  std::vector<double> values;
  for (const json& line : lines) values.push_back(line.at(name).get<double>());
  return *std::min_element(values.begin(), values.end());
}

}  // namespace

TEST_CASE("Keys of sampling reach the sampler of a policy", "[end_to_end]") {
  const GrpoJob job("num_generations: 4, max_completion_length: 24");
  const std::string distinct = program_reward(job, "distinct", "len(set(ids)) / len(ids)", "pass", ", workers: 1");
  const auto run = [&](const std::string& output, std::vector<std::string> keys) {
    keys.insert(keys.end(), {distinct, "training.max_steps=1"});
    return finished(job, output, keys)[0];
  };
  const auto texts_of_group = [&](const std::string& output, size_t group) {
    const std::vector<json> samples = read_lines(job.folder / output / "completions.jsonl");
    std::set<std::string> texts;
    for (size_t i = 4 * group; i < 4 * group + 4; ++i) texts.insert(samples.at(i).at("completion"));
    return texts;
  };
  const json free = run("free", {});
  CHECK(free.at("frac_reward_zero_std") < 1);
  CHECK(free.at("rewards/distinct/mean") < 1);
  CHECK(texts_of_group("free", 0).size() == 4);
  // each of them leaves the likeliest token alone
  for (const std::string key : {"top_k=1", "top_p=1.0e-6", "min_p=1"}) {
    INFO(key);
    const std::string output = key.substr(0, key.find('='));
    const json line = run(output, {"grpo." + key});
    for (const size_t group : {0, 1}) CHECK(texts_of_group(output, group).size() == 1);
    CHECK(job.completions(output) == job.completions("top_k"));
    CHECK(line.at("frac_reward_zero_std") == 1);
    CHECK(line.at("grad_norm") == 0);
  }
  CHECK(job.metrics("top_k")[0].at("rewards/distinct/mean") < 1);  // the likeliest one comes again
  const json penalised = run("penalised", {"grpo.repetition_penalty=1.0e+6"});
  CHECK(penalised.at("rewards/distinct/mean") > 0.95);  // a likely token is made an average one
  CHECK(texts_of_group("penalised", 0).size() == 4);
}

TEST_CASE("A reward that is slow or fails does not block sampling", "[end_to_end]") {
  const GrpoJob job("num_generations: 4, max_completion_length: 48, max_failed_rewards: 1");
  constexpr double kSleep_s = 0.5;
  const auto run = [&](const std::string& name, const std::string& before, const std::string& keys) {
    return finished(job, name,
                    {program_reward(job, name, "float(len(ids))", before, keys), "training.max_steps=3",
                     "training.learning_rate=0"});
  };
  const std::vector<json> quick = run("quick", "pass", ", workers: 4");
  const std::vector<json> slow = run("slow", "time.sleep(" + std::to_string(kSleep_s) + ")", ", workers: 4");
  // given up after three failures in a row, so that its first update shows what waiting for it would do
  const std::vector<json> hanging = run("hanging", "time.sleep(600)", ", workers: 1, timeout_s: 0.5");
  const auto sampling_of = [](const std::vector<json>& lines) { return least(lines, "rollout/sampling_seconds"); };
  const auto waiting_of = [](const std::vector<json>& lines) {
    return least(lines, "rollout/waiting_for_rewards_seconds");
  };
  const double beside_hanging = hanging.front().at("rollout/sampling_seconds");
  INFO("sampling " << sampling_of(quick) << ", " << sampling_of(slow) << ", " << beside_hanging << " s; waiting "
                   << waiting_of(quick) << ", " << waiting_of(slow) << " s");
  // eight completions by four workers: two rounds of sleep, of which one at least is still to come when all are sampled
  CHECK(waiting_of(slow) > kSleep_s / 2);
  CHECK(waiting_of(slow) > waiting_of(quick));
  CHECK(sampling_of(slow) < sampling_of(quick) + kSleep_s);
  CHECK(beside_hanging < quick.front().at("rollout/sampling_seconds").get<double>() + 2 * kSleep_s);
  for (const json& line : slow) CHECK(line.at("rewards/failed") == 0);
  CHECK(least(hanging, "rewards/failed") == 8);
  const auto texts = [&](const std::string& output) {
    std::vector<std::string> all;
    for (const json& sample : read_lines(job.folder / output / "completions.jsonl"))
      all.push_back(sample.at("completion"));
    return all;
  };
  CHECK(texts("slow") == texts("quick"));
  CHECK(texts("hanging") == texts("quick"));
}

}  // namespace dsft::test

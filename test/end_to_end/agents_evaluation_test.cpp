// Evaluations of several agents and of their ensemble (docs/agents.md).
#include <map>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/agents_job.h"

namespace dsft::test {

TEST_CASE("Agents and their vote are evaluated as they are trained, by whomever", "[end_to_end]") {
  const AgentsJob job(Task::kThirds);
  const ProgramRun run = job.run(1, "grpo", evaluated(job, {}));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  Metrics metrics = job.evaluations("grpo").at(0);
  REQUIRE(job.evaluations("grpo").at(1).size() == metrics.size());
  CHECK(metrics.at("eval_ensemble/accuracy") > 0.9);
  for (const std::string& name : kNames)
    CHECK(metrics.at("eval_agents/" + name + "/accuracy") < metrics.at("eval_ensemble/accuracy") - 0.2);

  // counted anew from what was written: every agent answers every question twice
  std::vector<json> before;
  for (const json& line : read_lines(job.folder / "grpo" / "completions.jsonl"))
    if (line.value("evaluation", false) && line.at("step") == 0) before.push_back(line);
  REQUIRE(before.size() == kQuestions * kAgents * 2);
  Metrics right, agreed;
  std::map<std::pair<std::string, std::string>, int> right_of_group;
  double reward = 0;
  for (const json& line : before) {
    const std::string agent = line.at("agent");
    const bool is_right = line.at("rewards").at("math_answer") == 1.0;
    right[agent] += is_right;
    right_of_group[{agent, line.at("prompt").back().at("content")}] += is_right;
    agreed[agent] += line.at("rewards").at("agreement").get<double>();
    reward += line.at("reward").get<double>();
  }
  double pass_1 = 0, pass_2 = 0, all_agreed = 0;
  for (const auto& [group, count] : right_of_group) {
    pass_1 += count / 2.0;
    pass_2 += count > 0 ? 1 : 0;
  }
  for (const std::string& name : kNames) {
    CHECK(metrics.at("eval_agents/" + name + "/accuracy") == Catch::Approx(right[name] / (kQuestions * 2)));
    CHECK(metrics.at("eval_agents/" + name + "/consistency") == Catch::Approx(agreed[name] / (kQuestions * 2)));
    all_agreed += agreed[name] / (kQuestions * kAgents * 2);
  }
  CHECK(metrics.at("eval_ensemble/consistency") == Catch::Approx(all_agreed));
  CHECK(metrics.at("eval_rewards/agreement/mean") == Catch::Approx(all_agreed));
  CHECK(metrics.at("eval_reward") == Catch::Approx(reward / static_cast<double>(before.size())));
  CHECK(metrics.at("eval_pass@1") == Catch::Approx(pass_1 / (kQuestions * kAgents)));
  CHECK(metrics.at("eval_pass@2") == Catch::Approx(pass_2 / (kQuestions * kAgents)));
  CHECK(metrics.at("eval_ensemble/accuracy") == Catch::Approx(count_right_votes(before)));

  require_equal(judge(job, {"data.eval=[" + job.in("asked.jsonl") + "]", "grpo.num_generations_eval=2"}), metrics);
  const ProgramRun together =
      job.run(2, "together", evaluated(job, {"training.per_device_train_batch_size=18"}));  // nine questions for two
  INFO(together.err);
  REQUIRE(together.exit_code == 0);
  require_equal(job.evaluations("together").at(0), metrics);
}

}  // namespace dsft::test

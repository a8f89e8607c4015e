// Several agents over one set of weights (docs/agents.md).
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/agents_job.h"

namespace dsft::test {

TEST_CASE("An ensemble of agents that know different things beats each of them by its vote", "[end_to_end]") {
  const AgentsJob job(Task::kThirds);
  const ProgramRun run = job.run(1, "grpo", {});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK_THAT(run.err, Catch::Matchers::ContainsSubstring("9 prompts x 3 agents x 4 completions = 108 rows"));
  const auto samples = read_lines(job.folder / "grpo" / "completions.jsonl");
  REQUIRE(samples.size() == kQuestions * kAgents * kGenerations);
  const json metrics = job.metrics("grpo").at(0);
  const double accuracy = metrics.at("ensemble/accuracy");
  INFO(metrics.dump());
  CHECK(accuracy > 0.9);
  for (const std::string& name : kNames)
    CHECK(metrics.at("agents/" + name + "/accuracy").get<double>() < accuracy - 0.2);

  // counted anew from what was written
  CHECK(accuracy == Catch::Approx(count_right_votes(samples)));
  std::map<std::string, double> agreed;
  for (const auto& [asked, of_question] : answers_of(samples)) {
    for (const auto& of_agent : of_question) {
      for (const auto& [name, answer] : of_agent) {
        const auto is_same = [&](const auto& other) { return !answer.empty() && other.second == answer; };
        agreed[name] +=
            (std::max<double>(1, static_cast<double>(std::count_if(of_agent.begin(), of_agent.end(), is_same))) - 1) /
            2;
      }
    }
  }
  const double per_agent = kQuestions * kGenerations;
  double all = 0;
  for (const std::string& name : kNames) {
    CHECK(metrics.at("agents/" + name + "/consistency").get<double>() == Catch::Approx(agreed[name] / per_agent));
    all += agreed[name] / per_agent / kAgents;
  }
  CHECK(metrics.at("ensemble/consistency").get<double>() == Catch::Approx(all));
  CHECK(metrics.at("rewards/agreement/mean").get<double>() == Catch::Approx(all));
  for (const json& sample : samples) {
    CHECK(sample.at("prompt").at(0).at("role") == "system");
    CHECK(sample.at("reward").get<double>() == Catch::Approx(sample.at("rewards").at("math_answer").get<double>() +
                                                             0.3 * sample.at("rewards").at("agreement").get<double>()));
    const std::string said = sample.at("completion");  // and no more than the stop string
    CHECK(said.substr(std::min(said.size(), said.find("</response>"))).size() <= std::string("</response>").size());
  }
}

TEST_CASE("An ensemble that decodes from its agents' mean state beats each of them", "[end_to_end][slow]") {
  const AgentsJob job(Task::kThirds);
  const ProgramRun run = job.run(1, "grpo", evaluated(job, {"grpo.ensemble.combine=mean"}));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const auto lines = job.metrics("grpo");
  const auto trained = std::find_if(lines.begin(), lines.end(), [](const json& line) { return line.contains("loss"); });
  REQUIRE(trained != lines.end());
  const Metrics evaluation = job.evaluations("grpo").at(0);
  INFO(trained->dump());
  for (const std::string& name : kNames) {
    CHECK(trained->at("agents/" + name + "/accuracy").get<double>() <
          trained->at("ensemble/accuracy").get<double>() - 0.1);
    CHECK(evaluation.at("eval_agents/" + name + "/accuracy") < evaluation.at("eval_ensemble/accuracy") - 0.1);
  }
  // greedy, by the same weights: of these questions the same answers
  CHECK(evaluation.at("eval_ensemble/accuracy") == trained->at("ensemble/accuracy").get<double>());
  require_equal(judge(job, {"grpo.ensemble.combine=mean", "data.eval=[" + job.in("asked.jsonl") + "]",
                            "grpo.num_generations_eval=2"}),
                evaluation);
}

TEST_CASE("An ensemble learns whom to listen to, and goes on where it was saved", "[end_to_end][slow]") {
  const AgentsJob job(Task::kOneKnows);
  const std::vector<std::string> settings = {
      "grpo.ensemble={combine: learned, agreement_weight: 0, pool_learning_rate: 0.5}", "training.max_steps=10",
      "training.save_strategy=steps", "training.save_steps=5", "lora={r: 4}"};
  const ProgramRun whole = job.run(1, "whole", settings);
  INFO(whole.err);
  REQUIRE(whole.exit_code == 0);
  const auto metrics = job.metrics("whole");
  REQUIRE(metrics.size() == 10);
  INFO(metrics.front().dump() << metrics.back().dump());
  CHECK(metrics.front().at("ensemble/accuracy") == 0);  // two of three are wrong
  CHECK(metrics.back().at("ensemble/accuracy") == 1);
  CHECK(metrics.back().at("agents/blue/pool_weight").get<double>() > 0.8);
  CHECK(metrics.back().at("ensemble/loss").get<double>() < metrics.front().at("ensemble/loss").get<double>());
  // who is listened to is saved beside the weights, and read where these are judged; without them training begins
  const std::vector<std::string> judged = {settings[0], "lora={r: 4}", "data.eval=[" + job.in("asked.jsonl") + "]"};
  const Metrics before = judge(job, judged);
  std::vector<std::string> with_adapter = judged;
  with_adapter.push_back("lora.adapter=" + job.in("whole"));
  const Metrics after = judge(job, with_adapter);
  CHECK(before.at("eval_ensemble/accuracy") == 0);
  CHECK(before.at("eval_agents/blue/pool_weight") == Catch::Approx(1.0 / kAgents));
  CHECK(after.at("eval_ensemble/accuracy") == 1);
  CHECK(after.at("eval_ensemble/loss") < before.at("eval_ensemble/loss"));
  CHECK(after.at("eval_agents/blue/pool_weight") ==
        Catch::Approx(metrics.back().at("agents/blue/pool_weight").get<double>()));
  for (const char* folder : {"whole", "whole/checkpoint-5"})
    for (const char* file : {"adapter_model.safetensors", "ensemble.safetensors"})
      CHECK(std::filesystem::exists(job.folder / folder / file));
  std::filesystem::remove_all(job.folder / "whole" / "checkpoint-10");
  std::vector<std::string> again = settings;
  again.emplace_back("training.resume_from_checkpoint=true");
  const ProgramRun rest = job.run(1, "whole", again);
  INFO(rest.err);
  REQUIRE(rest.exit_code == 0);
  const auto resumed = job.metrics("whole");
  REQUIRE(resumed.size() == 10);
  for (const char* name : {"ensemble/loss", "ensemble/accuracy", "agents/blue/pool_weight"})
    CHECK(resumed.back().at(name).get<double>() == Catch::Approx(metrics.back().at(name).get<double>()).epsilon(1e-6));
}

TEST_CASE("Ranks ask agents, and hear each other's, as one process would", "[end_to_end][slow]") {
  const AgentsJob job(Task::kNothing);
  const auto size = [&](int rows) {
    return evaluated(job,
                     {"training.max_steps=3", "grpo.temperature=1.0",
                      "grpo.rewards=[{name: length, unit: characters, max: 1, ramp: 50}, math_answer]",
                      "grpo.ensemble.combine=learned", "grpo.ensemble.agreement_weight=1.0", "grpo.num_generations=2",
                      "training.learning_rate=1.0e-3", "training.gradient_accumulation_steps=2",
                      "training.per_device_train_batch_size=" + std::to_string(rows)});
  };
  const ProgramRun alone = job.run(1, "alone", size(12)), together = job.run(2, "together", size(6));
  INFO(alone.err << together.err);
  REQUIRE(alone.exit_code == 0);
  REQUIRE(together.exit_code == 0);
  CHECK(job.completions("together") == job.completions("alone"));
  require_equal(job.evaluations("together").at(0), job.evaluations("alone").at(0));
  const auto updates_of = [&](const std::string& output) {
    std::vector<json> lines = job.metrics(output);
    std::erase_if(lines, [](const json& line) { return !line.contains("loss"); });
    return lines;
  };
  const auto expected = updates_of("alone"), given = updates_of("together");
  REQUIRE(expected.size() == 3);
  REQUIRE(given.size() == 3);
  for (size_t i = 0; i < expected.size(); ++i) {
    for (const char* name : {"ensemble/loss", "agents/red/pool_weight"})
      CHECK(given[i].at(name).get<double>() == Catch::Approx(expected[i].at(name).get<double>()).epsilon(2e-5));
    for (const char* name : {"reward", "rewards/agreement/mean", "ensemble/consistency", "agents/red/consistency",
                             "agents/red/accuracy", "ensemble/accuracy"})
      CHECK(given[i].at(name).get<double>() == Catch::Approx(expected[i].at(name).get<double>()).epsilon(1e-9));
  }
}

TEST_CASE("Agents that cannot be asked are said before anything is sampled", "[end_to_end]") {
  const AgentsJob job(Task::kNothing);
  const ProgramRun no_prompts = job.run(1, "run", {"training.per_device_train_batch_size=10"});
  CHECK(no_prompts.exit_code == 2);
  CHECK_THAT(no_prompts.err, Catch::Matchers::ContainsSubstring("3 agents x grpo.num_generations 4 = 12 completions"));
  const std::string plain = job.folder.write("plain.jsonl", "{\"prompt\": \"2 + 2 =\", \"answer\": \"4\"}\n").string();
  for (const bool checks : {true, false}) {
    const ProgramRun text = checks ? run_dsft({"check", job.recipe, "data.train=[" + plain + "]"}, job.folder)
                                   : job.run(1, "run", {"data.train=[" + plain + "]"});
    CHECK(text.exit_code == 3);
    CHECK_THAT(text.err, Catch::Matchers::ContainsSubstring("no conversation"));
  }
  // of evaluation rows it is said as well
  CHECK(run_dsft({"check", job.recipe, "data.eval=[" + plain + "]"}, job.folder).exit_code == 3);
  const ProgramRun judged = run_dsft({"eval", job.recipe, "data.eval=[" + plain + "]"}, job.folder);
  CHECK(judged.exit_code == 3);
  CHECK_THAT(judged.err, Catch::Matchers::ContainsSubstring("plain.jsonl:1: ") &&
                             Catch::Matchers::ContainsSubstring("no conversation"));
  job.folder.write("silent.jinja",
                   "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}");
  const ProgramRun silent = job.run(1, "run", {"data.chat_template=" + job.in("silent.jinja")});
  CHECK(silent.exit_code == 4);
  CHECK_THAT(silent.err, Catch::Matchers::ContainsSubstring("does not show system messages"));
  const ProgramRun silently = run_dsft(
      {"eval", job.recipe, "data.eval=[" + job.in("asked.jsonl") + "]", "data.chat_template=" + job.in("silent.jinja")},
      job.folder);
  CHECK(silently.exit_code == 4);
  CHECK_THAT(silently.err, Catch::Matchers::ContainsSubstring("does not show system messages"));
}

}  // namespace dsft::test

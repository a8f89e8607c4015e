// Several agents over one set of weights (docs/agents.md).
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/run_dsft.h"

namespace dsft::test {
namespace {

using nlohmann::json;

constexpr int kQuestions = 9, kAgents = 3, kGenerations = 4;
const std::vector<std::string> kNames = {"red", "green", "blue"};

std::string system_prompt(int agent) {
  return "You are the " + kNames[static_cast<size_t>(agent)] + " one.";
}

json question(int number) {
  return {{"role", "user"}, {"content", "What is number " + std::to_string(number) + "?"}};
}

int right_answer(int number) {
  return number * 7 % 10;
}

// Made tasks: what the agents have learned to answer.
enum class Task {
  kNothing,
  kThirds,   ///< each is wrong, in its own way, on a third of the questions, and no two on the same
  kOneKnows  ///< the last one is right on all, the others say the same wrong things
};

int known_answer(Task task, int agent, int number) {
  const int right = right_answer(number);
  if (task == Task::kOneKnows) return agent == kAgents - 1 ? right : (right + 1) % 10;
  return number % kAgents == agent ? (right + 1 + agent) % 10 : right;
}

// A tiny model that has learned what each agent knows, by its system prompt, and a recipe that asks all three.
struct AgentsJob {
  TempDir folder;
  std::string recipe;

  explicit AgentsJob(Task task) {
    const std::string lessons = make_tiny_job(folder,
                                              "training: {num_train_epochs: 150, per_device_train_batch_size: 27, "
                                              "learning_rate: 1.0e-2, logging_steps: 20, report_to: [none], "
                                              "save_strategy: \"no\"}\n")
                                    .string();
    std::string known, asked;
    for (int number = 0; number < kQuestions; ++number) {
      asked += json{{"prompt", {question(number)}}, {"answer", "#### " + std::to_string(right_answer(number))}}.dump() +
               "\n";
      for (int agent = 0; agent < kAgents; ++agent)
        known += json{{"messages",
                       {{{"role", "system"}, {"content", system_prompt(agent)}},
                        question(number),
                        {{"role", "assistant"},
                         {"content",
                          "#### " + std::to_string(known_answer(task, agent, number)) + "\n</response> and so on"}}}}}
                     .dump() +
                 "\n";
    }
    folder.write("train.jsonl", known);
    folder.write("asked.jsonl", asked);
    if (task != Task::kNothing) {
      const ProgramRun lesson = run_dsft({"train", lessons, "data.eval=[]"}, folder);
      INFO(lesson.err);
      REQUIRE(lesson.exit_code == 0);
    }
    recipe = folder
                 .write("agents.yaml", "recipe: grpo\noutput_dir: " + in("grpo") +
                                           "\nmodel: {path: " + in(task == Task::kNothing ? "model" : "run") +
                                           ", dtype: fp32}\ndevice: cpu\ndata: {train: [" + in("asked.jsonl") +
                                           "], chat_template: " + in("chatml.jinja") +
                                           "}\ngrpo:\n  num_generations: 4\n  max_completion_length: 16\n"
                                           "  temperature: 0.2\n  stop_strings: [\"</response>\"]\n"
                                           "  rewards: [{name: math_answer, weight: 1.0}]\n  agents:\n" +
                                           agents() +
                                           "  ensemble: {combine: vote, agreement_weight: 0.3}\n"
                                           "training: {learning_rate: 1.0e-6, logging_steps: 1, report_to: [none], "
                                           "save_strategy: \"no\", max_steps: 1, gradient_accumulation_steps: 3, "
                                           "per_device_train_batch_size: 36}\n")
                 .string();
  }
  std::string in(const std::string& name) const { return (folder / name).string(); }
  static std::string agents() {
    std::string entries;
    for (int agent = 0; agent < kAgents; ++agent)
      entries +=
          "    - {name: " + kNames[static_cast<size_t>(agent)] + ", system_prompt: \"" + system_prompt(agent) + "\"}\n";
    return entries;
  }
  ProgramRun run(int ranks, const std::string& output, std::vector<std::string> overrides) const {
    std::vector<std::string> arguments = {"launch", "--num-procs", std::to_string(ranks), recipe,
                                          "output_dir=" + in(output)};
    if (ranks == 1) arguments = {"train", recipe, "output_dir=" + in(output)};
    arguments.insert(arguments.end(), overrides.begin(), overrides.end());
    return run_dsft(arguments, folder);
  }
};

// The answers of a round by question, generation and agent, as completions.jsonl has them; "" where there is none.
using Answers = std::map<std::string, std::vector<std::map<std::string, std::string>>>;

Answers answers_of(const std::vector<json>& lines) {
  Answers answers;
  std::map<std::pair<std::string, std::string>, size_t> seen;
  for (const json& line : lines) {
    const std::string asked = line["prompt"].back()["content"], agent = line["agent"];
    const size_t generation = seen[{asked, agent}]++;
    auto& of_question = answers[asked];
    of_question.resize(std::max(of_question.size(), generation + 1));
    of_question[generation][agent] = line["answer"].is_null() ? "" : line["answer"].get<std::string>();
  }
  return answers;
}

}  // namespace

TEST_CASE("An ensemble of agents that know different things beats each of them by its vote", "[end_to_end]") {
  const AgentsJob job(Task::kThirds);
  const ProgramRun run = job.run(1, "grpo", {});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK_THAT(run.err, Catch::Matchers::ContainsSubstring("9 prompts x 3 agents x 4 completions = 108 rows"));
  const auto samples = read_lines(job.folder / "grpo" / "completions.jsonl");
  REQUIRE(samples.size() == kQuestions * kAgents * kGenerations);
  const json metrics = read_lines(job.folder / "grpo" / "metrics.jsonl").at(0);
  const double accuracy = metrics.at("ensemble/accuracy");
  INFO(metrics.dump());
  CHECK(accuracy > 0.9);
  for (const std::string& name : kNames)
    CHECK(metrics.at("agents/" + name + "/accuracy").get<double>() < accuracy - 0.2);

  // counted anew from what was written: all weights are 1, and answers are digits
  std::map<std::string, double> agreed;
  double elected_right = 0;
  Answers answers = answers_of(samples);
  REQUIRE(answers.size() == kQuestions);
  for (int number = 0; number < kQuestions; ++number) {
    for (auto& of_agent : answers[question(number)["content"]]) {
      REQUIRE(of_agent.size() == kAgents);
      std::map<std::string, int> votes;
      for (const auto& [name, answer] : of_agent)
        if (!answer.empty()) ++votes[answer];
      for (const auto& [name, answer] : of_agent) agreed[name] += answer.empty() ? 0 : (votes[answer] - 1) / 2.0;
      std::string elected;
      for (const std::string& name : kNames)
        if (!of_agent[name].empty() && (elected.empty() || votes[of_agent[name]] > votes[elected]))
          elected = of_agent[name];
      elected_right += elected == std::to_string(right_answer(number));
    }
  }
  const double per_agent = kQuestions * kGenerations;
  CHECK(accuracy == Catch::Approx(elected_right / per_agent));
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
  const ProgramRun run = job.run(1, "grpo", {"grpo.ensemble.combine=mean"});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const json metrics = read_lines(job.folder / "grpo" / "metrics.jsonl").at(0);
  INFO(metrics.dump());
  for (const std::string& name : kNames)
    CHECK(metrics.at("agents/" + name + "/accuracy").get<double>() <
          metrics.at("ensemble/accuracy").get<double>() - 0.1);
}

TEST_CASE("An ensemble learns whom to listen to, and goes on where it was saved", "[end_to_end][slow]") {
  const AgentsJob job(Task::kOneKnows);
  const std::vector<std::string> settings = {
      "grpo.ensemble={combine: learned, agreement_weight: 0, pool_learning_rate: 0.5}", "training.max_steps=10",
      "training.save_strategy=steps", "training.save_steps=5", "lora={r: 4}"};
  const ProgramRun whole = job.run(1, "whole", settings);
  INFO(whole.err);
  REQUIRE(whole.exit_code == 0);
  const auto metrics = read_lines(job.folder / "whole" / "metrics.jsonl");
  REQUIRE(metrics.size() == 10);
  INFO(metrics.front().dump() << metrics.back().dump());
  CHECK(metrics.front().at("ensemble/accuracy") == 0);  // two of three are wrong
  CHECK(metrics.back().at("ensemble/accuracy") == 1);
  CHECK(metrics.back().at("agents/blue/pool_weight").get<double>() > 0.8);
  CHECK(metrics.back().at("ensemble/loss").get<double>() < metrics.front().at("ensemble/loss").get<double>());
  for (const char* folder : {"whole", "whole/checkpoint-5"})
    for (const char* file : {"adapter_model.safetensors", "ensemble.safetensors"})
      CHECK(std::filesystem::exists(job.folder / folder / file));
  std::filesystem::remove_all(job.folder / "whole" / "checkpoint-10");
  std::vector<std::string> again = settings;
  again.emplace_back("training.resume_from_checkpoint=true");
  const ProgramRun rest = job.run(1, "whole", again);
  INFO(rest.err);
  REQUIRE(rest.exit_code == 0);
  const auto resumed = read_lines(job.folder / "whole" / "metrics.jsonl");
  REQUIRE(resumed.size() == 10);
  for (const char* name : {"ensemble/loss", "ensemble/accuracy", "agents/blue/pool_weight"})
    CHECK(resumed.back().at(name).get<double>() == Catch::Approx(metrics.back().at(name).get<double>()).epsilon(1e-6));
}

TEST_CASE("Ranks ask agents, and hear each other's, as one process would", "[end_to_end][slow]") {
  const AgentsJob job(Task::kNothing);
  const auto size = [](int rows) {
    return std::vector<std::string>{"training.max_steps=3",
                                    "grpo.temperature=1.0",
                                    "grpo.rewards=[{name: length, unit: characters, max: 1, ramp: 50}, math_answer]",
                                    "grpo.ensemble.combine=learned",
                                    "grpo.ensemble.agreement_weight=1.0",
                                    "grpo.num_generations=2",
                                    "training.learning_rate=1.0e-3",
                                    "training.gradient_accumulation_steps=2",
                                    "training.per_device_train_batch_size=" + std::to_string(rows)};
  };
  const ProgramRun alone = job.run(1, "alone", size(12)), together = job.run(2, "together", size(6));
  INFO(alone.err << together.err);
  REQUIRE(alone.exit_code == 0);
  REQUIRE(together.exit_code == 0);
  const auto sampled = [&](const std::string& output) {
    std::multiset<std::string> all;
    for (json line : read_lines(job.folder / output / "completions.jsonl")) {
      line.erase("advantage");  // rounded
      all.insert(line.dump());
    }
    return all;
  };
  CHECK(sampled("together") == sampled("alone"));
  const auto expected = read_lines(job.folder / "alone" / "metrics.jsonl"),
             given = read_lines(job.folder / "together" / "metrics.jsonl");
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
  job.folder.write("silent.jinja",
                   "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}");
  const ProgramRun silent = job.run(1, "run", {"data.chat_template=" + job.in("silent.jinja")});
  CHECK(silent.exit_code == 4);
  CHECK_THAT(silent.err, Catch::Matchers::ContainsSubstring("does not show system messages"));
}

}  // namespace dsft::test

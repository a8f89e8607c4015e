#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/grpo_job.h"

namespace dsft::test {

using nlohmann::json;

inline constexpr int kQuestions = 9, kAgents = 3, kGenerations = 4;
inline const std::vector<std::string> kNames = {"red", "green", "blue"};

inline std::string system_prompt(int agent) {
  return "You are the " + kNames[static_cast<size_t>(agent)] + " one.";
}

inline json question(int number) {
  return {{"role", "user"}, {"content", "What is number " + std::to_string(number) + "?"}};
}

inline int right_answer(int number) {
  return number * 7 % 10;
}

/// Made tasks: what the agents have learned to answer.
enum class Task {
  kNothing,
  kThirds,   ///< each is wrong, in its own way, on a third of the questions, and no two on the same
  kOneKnows  ///< the last one is right on all, the others say the same wrong things
};

inline int known_answer(Task task, int agent, int number) {
  const int right = right_answer(number);
  if (task == Task::kOneKnows) return agent == kAgents - 1 ? right : (right + 1) % 10;
  return number % kAgents == agent ? (right + 1 + agent) % 10 : right;
}

/// A tiny model that has learned what each agent knows, by its system prompt, and a recipe that asks all three.
struct AgentsJob : GrpoRuns {
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
  static std::string agents() {
    std::string entries;
    for (int agent = 0; agent < kAgents; ++agent)
      entries +=
          "    - {name: " + kNames[static_cast<size_t>(agent)] + ", system_prompt: \"" + system_prompt(agent) + "\"}\n";
    return entries;
  }
};

/// Before the first and after the last update, each agent answers twice.
inline const std::vector<std::string> kEvaluated = {"training.eval_on_start=true", "training.eval_strategy=steps",
                                                    "training.eval_steps=1", "grpo.num_generations_eval=2"};

inline std::vector<std::string> evaluated(const AgentsJob& job, std::vector<std::string> more) {
  more.insert(more.end(), kEvaluated.begin(), kEvaluated.end());
  more.push_back("data.eval=[" + job.in("asked.jsonl") + "]");
  return more;
}

/// What `dsft eval` gives.
inline Metrics judge(const AgentsJob& job, std::vector<std::string> overrides) {
  overrides.insert(overrides.begin(), {"eval", "--json", job.recipe});
  const ProgramRun run = run_dsft(overrides, job.folder);
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  return evaluation_of(json::parse(run.out));
}

/// The answers of a round by question, generation and agent, as completions.jsonl has them; "" where there is none.
using Answers = std::map<std::string, std::vector<std::map<std::string, std::string>>>;

inline Answers answers_of(const std::vector<json>& lines) {
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

/// Of each question and generation the answer of most agents, of equal numbers that of the first: the share that is
/// right, all weights being 1 and answers digits.
inline double count_right_votes(const std::vector<json>& lines) {
  Answers answers = answers_of(lines);
  REQUIRE(answers.size() == kQuestions);
  double num_right = 0, num_votes = 0;
  for (int number = 0; number < kQuestions; ++number) {
    for (auto& of_agent : answers[question(number)["content"]]) {
      REQUIRE(of_agent.size() == kAgents);
      std::map<std::string, int> votes;
      for (const auto& [name, answer] : of_agent)
        if (!answer.empty()) ++votes[answer];
      std::string elected;
      for (const std::string& name : kNames)
        if (!of_agent[name].empty() && (elected.empty() || votes[of_agent[name]] > votes[elected]))
          elected = of_agent[name];
      num_right += elected == std::to_string(right_answer(number));
      ++num_votes;
    }
  }
  return num_right / num_votes;
}

}  // namespace dsft::test

// Evaluations of a policy by its rewards, and the page of a run.
#include <algorithm>
#include <bit>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/grpo_job.h"
#include "end_to_end/reward_program.h"

namespace dsft::test {
namespace {

// With evaluation prompts, of which there are five: no whole number for each of two ranks.
struct EvaluatedJob : GrpoJob {
  explicit EvaluatedJob(const std::string& grpo, const std::string& sections = "lora: {r: 8, lora_alpha: 16}\n")
      : GrpoJob(grpo, sections) {
    std::string rows;
    for (int i = 0; i < 5; ++i)
      rows += nlohmann::json{{"prompt", "What is letter " + std::to_string(i) + "?"}}.dump() + "\n";
    folder.write("eval.jsonl", rows);
  }

  std::vector<std::string> overrides(int ranks, std::vector<std::string> more = {}) const {
    std::vector<std::string> all = {
        "data.eval=[" + in("eval.jsonl") + "]", "training.max_steps=4",
        "training.learning_rate=1.0e-3",        "training.per_device_train_batch_size=" + std::to_string(8 / ranks),
        "training.eval_strategy=steps",         "training.eval_steps=2",
        "training.eval_on_start=true"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

// A reward program that writes down what it was asked and what it gave.
std::string counting_program(const TempDir& folder) {
  const std::string command = write_reward_program(
      folder, "even",
      "rewards = [1.5 if sum(i) % 3 == 0 else 0.5 for i in r['completion_ids']]\n"
      "log = open(os.path.join(os.path.dirname(sys.argv[0]), 'asked.jsonl'), 'a')\n"
      "for prompt, value, ids in zip(r['prompts'], rewards, r['completion_ids']):\n"
      "  log.write(json.dumps({'step': r['step'], 'prompt': prompt, 'value': value, 'length': len(ids)}) + '\\n')\n"
      "log.close()\n");
  return "num_generations: 4, num_generations_eval: 6, max_completion_length: 5, rewards: [{command: \"" + command +
         "\", name: even, workers: 1}]";
}

// The share of all choices of k among which one passes.
double pass_by_counting(const std::vector<double>& values, double threshold, int k) {
  int chosen = 0, passed = 0;
  for (unsigned choice = 0; choice < 1U << values.size(); ++choice) {
    if (std::popcount(choice) != k) continue;
    ++chosen;
    bool passes = false;
    for (size_t i = 0; i < values.size(); ++i) passes |= (choice >> i & 1) && values[i] >= threshold;
    passed += passes;
  }
  return static_cast<double>(passed) / chosen;
}

}  // namespace

TEST_CASE("A policy is evaluated before, during and after training, and pass@k is what its rewards say",
          "[end_to_end]") {
  const TempDir programs;
  const EvaluatedJob job(counting_program(programs));
  const ProgramRun run = job.run(1, "run", job.overrides(1));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const auto evaluations = job.evaluations("run");
  REQUIRE(evaluations.size() == 3);
  for (const int64_t step : {0, 2, 4}) CHECK(evaluations.contains(step));

  std::map<std::string, std::vector<double>> before;  // by prompt; the program is told step 0 in evaluations
  std::vector<double> lengths;
  for (const auto& line : read_lines(programs / "asked.jsonl")) {
    if (line.at("step") != 0 || lengths.size() == 30) continue;
    before[line.at("prompt").dump()].push_back(line.at("value").get<double>());
    lengths.push_back(line.at("length").get<double>());
  }
  REQUIRE(before.size() == 5);
  double sum = 0;
  std::map<int, double> passes;
  for (const auto& [prompt, values] : before) {
    REQUIRE(values.size() == 6);
    for (const double value : values) sum += value / 30;
    for (const int k : {1, 2, 4, 6}) passes[k] += pass_by_counting(values, 1.0, k) / 5;
  }
  const Metrics& start = evaluations.at(0);
  CHECK(start.at("eval_reward") == Catch::Approx(sum));
  CHECK(start.at("eval_rewards/even/mean") == Catch::Approx(sum));
  CHECK(start.at("eval_completions/mean_length") ==
        Catch::Approx(std::accumulate(lengths.begin(), lengths.end(), 0.0) / 30));
  CHECK(start.at("eval_completions/max_length") == *std::max_element(lengths.begin(), lengths.end()));
  for (const auto& [k, share] : passes)
    CHECK(start.at("eval_pass@" + std::to_string(k)) == Catch::Approx(share).margin(1e-12));

  // what was sampled is kept beside the completions of training
  std::map<int64_t, std::vector<double>> kept;
  int64_t num_trained = 0;
  for (const auto& line : read_lines(job.folder / "run" / "completions.jsonl")) {
    if (line.value("evaluation", false))
      kept[line.at("step").get<int64_t>()].push_back(line.at("reward").get<double>());
    else
      CHECK(line.at("step") == 1 + num_trained++ / 8);
  }
  CHECK(num_trained == 4 * 8);
  CHECK(kept.size() == 3);
  for (const auto& [step, metrics] : evaluations) {
    REQUIRE(kept[step].size() == 30);
    CHECK(metrics.at("eval_reward") == Catch::Approx(std::accumulate(kept[step].begin(), kept[step].end(), 0.0) / 30));
  }

  // the same by dsft eval, of the weights that training began with and those that it left
  for (const auto& [adapter, step] : std::map<std::string, int64_t>{{"", 0}, {"run", 4}}) {
    std::vector<std::string> arguments = {"eval", "--json", job.recipe, "data.eval=[" + job.in("eval.jsonl") + "]"};
    if (!adapter.empty()) arguments.push_back("lora.adapter=" + job.in(adapter));
    const ProgramRun judged = run_dsft(arguments, job.folder);
    INFO(judged.err);
    REQUIRE(judged.exit_code == 0);
    Metrics metrics = nlohmann::json::parse(judged.out).get<Metrics>();
    CHECK(metrics.at("num_rows") == 5);
    CHECK(metrics.at("num_completions") == 30);
    CHECK(metrics.at("num_tokens") == Catch::Approx(30 * metrics.at("eval_completions/mean_length")));
    std::erase_if(metrics, [](const auto& metric) { return metric.first.starts_with("num_"); });
    require_equal(metrics, evaluations.at(step));
  }
  const ProgramRun strict = run_dsft({"eval", "--json", job.recipe, "data.eval=[" + job.in("eval.jsonl") + "]",
                                      "eval.pass_threshold=2", "eval.num_samples=2"},
                                     job.folder);
  INFO(strict.err);
  const auto none_passes = nlohmann::json::parse(strict.out);
  CHECK(none_passes.at("num_rows") == 2);
  CHECK(none_passes.at("eval_pass@6") == 0);
}

TEST_CASE("eval looks at prompts and their columns before it starts rewards or loads a model", "[end_to_end]") {
  const TempDir programs;
  const std::string started = (programs / "started").string();
  const EvaluatedJob job("num_generations: 4, rewards: [{name: math_answer}, {command: \"touch " + started +
                         "\", name: touch}]");
  std::filesystem::remove(job.folder / "model" / "model.safetensors");
  const auto judge = [&](const std::string& rows) {
    return run_dsft({"eval", job.recipe, "data.eval=[" + job.folder.write("eval.jsonl", rows).string() + "]"},
                    job.folder);
  };
  const std::string good = R"({"prompt": "2 + 2 =", "answer": "4"})"
                           "\n";
  const ProgramRun no_column = judge(good + R"({"prompt": "3 + 3 ="})"
                                            "\n");
  CHECK(no_column.exit_code == 3);
  CHECK_THAT(no_column.err, Catch::Matchers::ContainsSubstring("eval.jsonl:2: there is no column \"answer\""));
  const ProgramRun no_prompt = judge(good + "\n" +
                                     R"({"answer": "6"})"
                                     "\n");
  CHECK(no_prompt.exit_code == 3);
  CHECK_THAT(no_prompt.err, Catch::Matchers::ContainsSubstring("eval.jsonl:3: the row has the fields \"answer\""));
  CHECK_FALSE(std::filesystem::exists(started));
  const ProgramRun no_greeting = judge(good);
  CHECK(no_greeting.exit_code == 3);  // before the weights, which are missing too
  CHECK(std::filesystem::exists(started));
}

TEST_CASE("Ranks evaluate a policy to the numbers of one process", "[end_to_end][slow]") {
  const auto [name, sections] = GENERATE(table<std::string, std::string>(
      {{"adapter", "lora: {r: 8, lora_alpha: 16}\n"}, {"all weights", "zero: {stage: 3}\n"}}));
  INFO(name);
  const EvaluatedJob job(kShort + ", num_generations_eval: 3", sections);
  const ProgramRun alone = job.run(1, "alone", job.overrides(1));
  INFO(alone.err);
  REQUIRE(alone.exit_code == 0);
  const ProgramRun together = job.run(2, "together", job.overrides(2));
  INFO(together.err);
  REQUIRE(together.exit_code == 0);
  const auto expected = job.evaluations("alone"), given = job.evaluations("together");
  REQUIRE(given.size() == expected.size());
  require_equal(given.at(0), expected.at(0));  // of the same weights, to the bit
  for (const auto& [step, metrics] : expected) require_equal(given.at(step), metrics, 1e-9);
}

TEST_CASE("A run that continues keeps the completions of its evaluations once", "[end_to_end]") {
  const EvaluatedJob job(kShort);
  const std::vector<std::string> saving =
      job.overrides(1, {"training.save_strategy=steps", "training.save_steps=2", "training.save_total_limit=5"});
  const ProgramRun whole = job.run(1, "run", saving);
  INFO(whole.err);
  REQUIRE(whole.exit_code == 0);
  const auto expected = job.completions("run");
  REQUIRE(expected.size() == 4 * 8 + 3 * 5 * 4);
  std::filesystem::remove_all(job.folder / "run" / "checkpoint-4");
  std::vector<std::string> again = saving;
  again.emplace_back("training.resume_from_checkpoint=true");
  const ProgramRun rest = job.run(1, "run", again);
  INFO(rest.err);
  REQUIRE(rest.exit_code == 0);
  CHECK(job.completions("run") == expected);
}

TEST_CASE("The best policy is the one with the best evaluation, and patience ends a run", "[end_to_end]") {
  const EvaluatedJob job(kShort);
  const ProgramRun run = job.run(
      1, "run",
      job.overrides(1, {"data.eval=[]", "data.eval_fraction=0.4", "training.max_steps=6",
                        "training.learning_rate=3.0e-2", "training.eval_steps=1", "training.save_strategy=steps",
                        "training.save_steps=1", "training.save_total_limit=2", "training.load_best_model_at_end=true",
                        "training.early_stopping_patience=3", "grpo.num_generations_eval=8"}));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const auto evaluations = job.evaluations("run");
  std::pair<int64_t, double> best = {0, -1};
  for (const auto& [step, metrics] : evaluations)
    if (step > 0 && metrics.at("eval_reward") > best.second) best = {step, metrics.at("eval_reward")};
  const std::string checkpoint = "checkpoint-" + std::to_string(best.first);
  CHECK(read_file(job.folder / "run" / "adapter_model.safetensors") ==
        read_file(job.folder / "run" / checkpoint / "adapter_model.safetensors"));
  CHECK(evaluations.rbegin()->first == std::min<int64_t>(6, best.first + 3));
}

TEST_CASE("Evaluations whose completions no reward judges end no run", "[end_to_end]") {
  const EvaluatedJob job(kShort);
  const std::string command = write_reward_program(job.folder, "nulls", "rewards = [None] * len(r['completions'])");
  const ProgramRun run =
      job.run(1, "run",
              job.overrides(1, {"grpo.rewards=[{command: " + command + ", name: nulls}]",
                                "training.save_strategy=steps", "training.save_steps=2",
                                "training.metric_for_best_model=pass@4", "training.load_best_model_at_end=true"}));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK_THAT(run.err, Catch::Matchers::ContainsSubstring("step 1: no reward applies to any completion of its round"));
  CHECK(std::filesystem::exists(job.folder / "run" / "checkpoint-2"));
  size_t num_evaluations = 0;
  for (const auto& line : job.metrics("run")) {
    if (!line.contains("eval_pass@4")) continue;
    CHECK(line.at("eval_pass@4").is_null());
    ++num_evaluations;
  }
  CHECK(num_evaluations > 1);
}

TEST_CASE("Rewards that fail in an evaluation end the run with its last update saved, on all ranks", "[end_to_end]") {
  const int ranks = GENERATE(1, 2);
  const TempDir programs;
  const std::string command =
      write_reward_program(programs, "tired", "rewards = ['x' if r['step'] == 0 else 1.0] * len(r['completions'])");
  const EvaluatedJob job("num_generations: 4, max_completion_length: 4, rewards: [{command: \"" + command +
                         "\", name: tired, workers: 1}]");
  const ProgramRun run = job.run(ranks, "run", job.overrides(ranks, {"training.eval_on_start=false"}));
  INFO(run.err);
  CHECK(run.exit_code == 3);
  CHECK_THAT(run.err + run.out, Catch::Matchers::ContainsSubstring("evaluation: "));
  CHECK(std::filesystem::exists(job.folder / "run" / "checkpoint-2"));
}

TEST_CASE("A run leaves a page with its curves, evaluations and completions", "[end_to_end]") {
  const EvaluatedJob job(kShort + ", beta: 0.05");
  const ProgramRun run = job.run(1, "run", job.overrides(1));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const std::string page = read_file(job.folder / "run" / "report.html");
  for (const char* part :
       {"<h3>Reward</h3>", "<h3>length</h3>", "<h3>unique_characters</h3>", "<h3>Loss</h3>",
        "<h3>KL to the reference</h3>", "<h3>Entropy</h3>", "<h3>Length of completions</h3>", "<h3>Clipped ratios</h3>",
        "<h3>Groups without deviation</h3>", "<h3>Truncated completions</h3>", "<h3>Sampler</h3>",
        "<h3>Time of an update</h3>", "<h3>pass@k</h3>", "4 of 4", "has ended", "What is number", "Newest completions",
        "recipe: grpo"})
    CHECK_THAT(page, Catch::Matchers::ContainsSubstring(part));
  CHECK_THAT(page, !Catch::Matchers::ContainsSubstring("<script"));
}

TEST_CASE("Metrics are means of the updates between two logs, and of the rounds of an update", "[end_to_end]") {
  const EvaluatedJob job(kShort);
  const std::vector<std::string> sizes = {"training.per_device_train_batch_size=8", "training.learning_rate=0",
                                          "training.lr_scheduler_type=constant"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), sizes.begin(), sizes.end());
    return more;
  };
  REQUIRE(job.run(1, "each", with({"training.max_steps=4"})).exit_code == 0);
  REQUIRE(job.run(1, "two", with({"training.max_steps=4", "training.logging_steps=2"})).exit_code == 0);
  // the same rounds, two of them in an update
  REQUIRE(
      job.run(1, "rounds",
              with({"training.max_steps=2", "training.gradient_accumulation_steps=2", "grpo.steps_per_generation=1"}))
          .exit_code == 0);
  const auto each = job.metrics("each"), two = job.metrics("two"), rounds = job.metrics("rounds");
  REQUIRE(each.size() == 4);
  REQUIRE(two.size() == 2);
  REQUIRE(rounds.size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    const auto mean = [&](const char* name) {
      return (each[2 * i].at(name).get<double>() + each[2 * i + 1].at(name).get<double>()) / 2;
    };
    for (const char* name : {"reward", "reward_std", "completions/mean_length", "rewards/length/mean"}) {
      INFO(name);
      CHECK(two[i].at(name).get<double>() == Catch::Approx(mean(name)).margin(1e-9));
      CHECK(rounds[i].at(name).get<double>() == Catch::Approx(mean(name)).margin(1e-9));
    }
    for (const char* name : {"loss", "entropy"})
      CHECK(two[i].at(name).get<double>() == Catch::Approx(mean(name)).margin(1e-9));
    // two updates' tokens in twice the mean of their seconds
    const double num_tokens =
        two[i].at("num_tokens").get<double>() - (i == 0 ? 0 : two[0].at("num_tokens").get<double>());
    CHECK(2 * two[i].at("step_time").get<double>() * two[i].at("tokens_per_second").get<double>() ==
          Catch::Approx(num_tokens));
  }
}

}  // namespace dsft::test

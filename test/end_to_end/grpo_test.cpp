#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/grpo_job.h"
#include "end_to_end/reward_program.h"

namespace dsft::test {
namespace {

// Parts of a step are not longer than it, and what is found is said.
void require_advice(const ProgramRun& run, const nlohmann::json& advice) {
  const double step = advice.at("step_seconds"), update = advice.at("update_seconds");
  CHECK(update > 0);
  CHECK(update < step);
  CHECK(advice.at("rollout_seconds") > 0);
  CHECK(advice.at("rollout_seconds") < step);
  CHECK(advice.at("waiting_for_rewards_seconds") <= advice.at("rollout_seconds"));
  CHECK(advice.at("frac_reward_zero_std") < 0.5);
  for (const auto& item : advice.at("advice"))
    CHECK_THAT(run.err,
               Catch::Matchers::ContainsSubstring((item.at("aim") == "speed" ? "to go faster: " : "to learn more: ") +
                                                  item.at("sentence").get<std::string>()));
}

// An update's seconds are those by which its tokens are divided, and hold its round of sampling.
void require_seconds(const std::vector<nlohmann::json>& lines) {
  double num_tokens = 0;
  for (const auto& line : lines) {
    INFO(line.dump());
    const double seconds = line.at("step_time"), tokens = line.at("num_tokens").get<double>() - num_tokens;
    CHECK(seconds * line.at("tokens_per_second").get<double>() == Catch::Approx(tokens));
    CHECK(seconds > line.at("rollout/sampling_seconds").get<double>() +
                        line.at("rollout/waiting_for_rewards_seconds").get<double>());
    num_tokens = line.at("num_tokens");
  }
}

}  // namespace

// TRL 1.16.0 on this task (`scripts/parity/grpo_curves.py --cases short`, 8 seeds): from 0.95 to a mean reward of 1.190
// in the last five updates, standard deviation over its seeds 0.039.
constexpr double kTrlReward = 1.190, kTrlDeviation = 0.039;

TEST_CASE("A policy learns what is rewarded, as far as TRL's does", "[end_to_end]") {
  const GrpoJob job(kShort, "");
  constexpr int kSeeds = 3, kUpdates = 25, kRows = 32, kLast = 5;
  double sum = 0;
  for (int seed = 1; seed <= kSeeds; ++seed) {
    const std::string output = "run-" + std::to_string(seed);
    const ProgramRun run = job.run(1, output,
                                   {"seed=" + std::to_string(seed), "training.max_steps=25",
                                    "training.per_device_train_batch_size=32", "grpo.num_generations=8"});
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    CHECK_THAT(run.err, Catch::Matchers::ContainsSubstring("4 prompts x 8 completions = 32 rows") &&
                            Catch::Matchers::ContainsSubstring("it begins near 0 and stays there"));
    const auto lines = job.metrics(output);
    REQUIRE(lines.size() == kUpdates);
    require_seconds(lines);
    require_advice(run, nlohmann::json::parse(read_file(job.folder / output / "advice.json")));
    CHECK(lines.front()["reward"].get<double>() < 1.0);
    CHECK(std::abs(lines.front()["loss"].get<double>()) < 0.05);
    for (int i = kUpdates - kLast; i < kUpdates; ++i) sum += lines[i]["reward"].get<double>();
  }
  // two deviations: another processor's rounding makes other runs, and the mean of three seeds varies by 0.6 of one
  CHECK(sum / (kSeeds * kLast) > kTrlReward - 2 * kTrlDeviation);
  const auto samples = read_lines(job.folder / "run-1" / "completions.jsonl");
  REQUIRE(samples.size() == kUpdates * kRows);
  for (const auto& sample : samples) {
    CHECK(sample.at("prompt").is_array());
    CHECK(sample.at("completion").is_string());
    const double reward = sample.at("rewards").at("length").get<double>() +
                          0.25 * sample.at("rewards").at("unique_characters").get<double>();
    CHECK(sample.at("reward").get<double>() == Catch::Approx(reward));
  }
}

TEST_CASE("Ranks sample and train what one process would, on-policy and off", "[end_to_end][slow]") {
  // off-policy: a round is two updates, and each completion is used twice
  const auto [name, grpo, sections] = GENERATE(table<std::string, std::string, std::string>(
      {{"on-policy", "", "lora: {r: 8, lora_alpha: 16, lora_dropout: 0.05}\n"},
       {"off-policy", ", steps_per_generation: 4, num_iterations: 2, beta: 0.05", "lora: {r: 8, lora_alpha: 16}\n"},
       {"stage 2, its optimizer offloaded", "", "zero: {stage: 2, offload_optimizer: {device: cpu}}\n"},
       {"stage 3", "", "zero: {stage: 3}\n"},
       {"a reference, stage 1", ", beta: 0.05, sync_ref_model: true, ref_model_sync_steps: 2", "zero: {stage: 1}\n"},
       {"a reference, stage 3, parameters offloaded", ", beta: 0.05, sync_ref_model: true, ref_model_sync_steps: 2",
        "zero: {stage: 3, offload_param: {device: cpu}}\n"},
       {"a reference of more than LoRA", ", beta: 0.05",
        "lora: {r: 8, lora_alpha: 16, modules_to_save: [embed_tokens]}\nzero: {stage: 3}\n"}}));
  INFO(name);
  const GrpoJob job(kShort + grpo, sections);
  const auto size = [](int rows, int accumulation) {
    return std::vector<std::string>{"training.max_steps=5", "training.learning_rate=1.0e-3",
                                    "training.per_device_train_batch_size=" + std::to_string(rows),
                                    "training.gradient_accumulation_steps=" + std::to_string(accumulation)};
  };
  std::vector<std::string> at_stage_0 = size(8, 2);
  at_stage_0.emplace_back("zero=null");
  const ProgramRun alone = job.run(1, "alone", at_stage_0);
  INFO(alone.err);
  REQUIRE(alone.exit_code == 0);
  const ProgramRun together = job.run(2, "together", size(4, 2));
  INFO(together.err);
  REQUIRE(together.exit_code == 0);
  CHECK_THAT(together.err + together.out, Catch::Matchers::ContainsSubstring("are equal bit for bit"));
  CHECK(job.completions("together") == job.completions("alone"));
  require_same_course(job.metrics("together"), job.metrics("alone"));
  // what ratios and the reference need is computed by itself, and told
  for (const auto& line : job.metrics("together"))
    CHECK((line.contains("rollout/scoring_seconds") && line["rollout/scoring_seconds"] > 0) == !grpo.empty());
}

TEST_CASE("An adaptive entropy coefficient follows TRL's rule, over a resume too", "[end_to_end]") {
  // the rule of GRPOTrainer 1.16, from the entropies that the run reports
  const double start = 0.02, step = 0.005, least = 0.012, most = 0.03, target = GENERATE(2.0, 5.0, 100.0);
  const GrpoJob job(kShort +
                    ", use_adaptive_entropy: true, entropy_coef: 0.02, entropy_coef_min: 0.012, "
                    "entropy_coef_max: 0.03, entropy_target: " +
                    std::to_string(target));
  const std::vector<std::string> settings = {"training.max_steps=6", "training.per_device_train_batch_size=8",
                                             "training.save_strategy=steps", "training.save_steps=3"};
  REQUIRE(job.run(1, "whole", settings).exit_code == 0);
  double coefficient = start, last = std::numeric_limits<double>::infinity();
  const auto lines = job.metrics("whole");
  REQUIRE(lines.size() == 6);
  for (const auto& line : lines) {
    INFO(line.dump());
    const double entropy = line.at("entropy_in_loss").get<double>();
    const double applied = last <= target ? coefficient : 0;
    CHECK(line.at("loss").get<double>() ==
          Catch::Approx(line.at("policy_loss").get<double>() - applied * entropy).margin(1e-6));
    coefficient = entropy <= target ? std::min(coefficient + step, most) : std::max(coefficient - step, least);
    last = entropy;
    CHECK(line.at("entropy_coef").get<double>() == Catch::Approx(coefficient).epsilon(1e-12));
  }
  REQUIRE(job.run(1, "parts", settings).exit_code == 0);
  std::filesystem::remove_all(job.folder / "parts" / "checkpoint-6");
  std::vector<std::string> again = settings;
  again.emplace_back("training.resume_from_checkpoint=true");
  const ProgramRun resumed = job.run(1, "parts", again);
  INFO(resumed.err);
  REQUIRE(resumed.exit_code == 0);
  const auto continued = job.metrics("parts");
  REQUIRE(continued.size() == 6);
  for (size_t i = 0; i < 6; ++i)
    for (const char* name : {"loss", "entropy_in_loss", "entropy_coef", "grad_norm"})
      CHECK(continued[i].at(name) == lines[i].at(name));
}

TEST_CASE("A reference beside all weights is the policy at first, and follows it as the recipe says", "[end_to_end]") {
  const GrpoJob job(kShort + ", beta: 0.05", "");
  const auto run = [&](const std::string& output, std::vector<std::string> more) {
    more.insert(more.end(), {"training.max_steps=6", "training.per_device_train_batch_size=8",
                             "training.learning_rate=1.0e-3", "training.save_strategy=steps", "training.save_steps=3"});
    const ProgramRun run = job.run(1, output, more);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    std::vector<double> kl;
    for (const auto& line : job.metrics(output)) kl.push_back(line.at("kl").get<double>());
    REQUIRE(kl.size() == 6);
    return kl;
  };
  const std::vector<double> fixed = run("fixed", {});
  CHECK(std::abs(fixed[0]) < 1e-9);
  CHECK(fixed[1] > 1e-6);
  CHECK(fixed[5] > fixed[1]);
  const std::vector<std::string> whole_sync = {"grpo.sync_ref_model=true", "grpo.ref_model_mixup_alpha=1",
                                               "grpo.ref_model_sync_steps=2"};
  const std::vector<double> synced = run("synced", whole_sync);
  // after updates 2 and 4 the reference is the policy
  CHECK(synced[1] == fixed[1]);
  for (const size_t update : {0, 2, 4}) CHECK(std::abs(synced[update]) < 1e-9);
  for (const size_t update : {1, 3, 5}) CHECK(synced[update] > 1e-6);

  const std::vector<std::string> half_sync = {"grpo.sync_ref_model=true", "grpo.ref_model_sync_steps=2"};
  const std::vector<double> whole = run("whole", half_sync);
  CHECK(whole[2] > 1e-9);
  CHECK(whole[2] < fixed[2]);
  run("parts", half_sync);
  std::filesystem::remove_all(job.folder / "parts" / "checkpoint-6");
  std::vector<std::string> again = half_sync;
  again.emplace_back("training.resume_from_checkpoint=true");
  CHECK(run("parts", again) == whole);
}

TEST_CASE("A GRPO run that continues samples and trains as one that was not stopped", "[end_to_end]") {
  const GrpoJob job(kShort);
  const std::vector<std::string> sizes = {"training.per_device_train_batch_size=8", "training.learning_rate=1.0e-3",
                                          "training.save_strategy=steps", "training.save_steps=3"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), sizes.begin(), sizes.end());
    return more;
  };
  REQUIRE(job.run(1, "whole", with({"training.max_steps=6"})).exit_code == 0);
  REQUIRE(job.run(1, "parts", with({"training.max_steps=6", "training.save_total_limit=2"})).exit_code == 0);
  std::filesystem::remove_all(job.folder / "parts" / "checkpoint-6");
  const ProgramRun again = job.run(1, "parts", with({"training.max_steps=6", "training.resume_from_checkpoint=true"}));
  INFO(again.err);
  REQUIRE(again.exit_code == 0);
  require_same_course(job.metrics("parts"), job.metrics("whole"));
  CHECK(job.completions("parts") == job.completions("whole"));

  // from an older checkpoint by its path: another run, beside what the earlier one has left
  const std::string earlier = read_file(job.folder / "parts" / "completions.jsonl");
  const ProgramRun other =
      job.run(1, "parts",
              with({"training.max_steps=6", "training.resume_from_checkpoint=" + job.in("parts") + "/checkpoint-3"}));
  INFO(other.err);
  REQUIRE(other.exit_code == 0);
  require_same_course(job.metrics("parts"), job.metrics("whole"));
  CHECK(read_file(job.folder / "parts" / "completions-1.jsonl") == earlier);
  std::map<int64_t, int> per_update;
  for (const auto& sample : read_lines(job.folder / "parts" / "completions.jsonl"))
    ++per_update[sample.at("step").get<int64_t>()];
  CHECK(per_update == std::map<int64_t, int>{{4, 8}, {5, 8}, {6, 8}});
}

TEST_CASE("Rewards that fail too often end a run that is saved, on all ranks", "[end_to_end]") {
  const int ranks = GENERATE(1, 2);
  GrpoJob job(
      "num_generations: 4, max_completion_length: 4, rewards: [{command: \"python3 reward.py\", name: tired, "
      "timeout_s: 20, workers: 1}]");
  const std::string command =
      write_reward_program(job.folder, "tired", "rewards = ['x' if r['step'] > 2 else 1.0] * len(r['completions'])");
  const ProgramRun run = job.run(ranks, "run",
                                 {"training.max_steps=5", "training.save_strategy=steps",
                                  "training.per_device_train_batch_size=" + std::to_string(8 / ranks),
                                  "grpo.rewards=[{command: '" + command + "', name: tired, workers: 1}]"});
  INFO(run.err);
  CHECK(run.exit_code == 3);
  CHECK_THAT(run.err + run.out, Catch::Matchers::ContainsSubstring("tired"));
  CHECK(job.metrics("run").size() == 2);
  CHECK(std::filesystem::exists(job.folder / "run" / "checkpoint-2"));
  CHECK_THAT(run.err + run.out, Catch::Matchers::ContainsSubstring("go on from step 2"));
  size_t num_failed = 0, num_cut = 0;
  for (const auto& line : read_lines(job.folder / "run" / "completions.jsonl")) {
    CHECK(line.value("failed", false) == (line.at("step") == 3));
    num_failed += line.value("failed", false);
    num_cut += line.value("truncated", false);
  }
  CHECK(num_failed == 8);
  CHECK(num_cut > 0);
}

TEST_CASE("A run whose first rewards fail leaves its page with what was sampled", "[end_to_end]") {
  const GrpoJob job(kShort);
  const std::string program =
      job.folder.write("wrong.sh", "echo '{\"protocol\": 1, \"name\": \"x\"}'\nwhile read -r line; do echo no; done\n")
          .string();
  const ProgramRun run =
      job.run(1, "run",
              {"training.per_device_train_batch_size=8", "grpo.rewards=[{command: sh " + program + ", name: wrong}]"});
  INFO(run.err);
  REQUIRE(run.exit_code == 3);
  CHECK_THAT(run.err, !Catch::Matchers::ContainsSubstring("go on from step"));  // nothing is saved
  const std::string page = read_file(job.folder / "run" / "report.html");
  CHECK_THAT(page, Catch::Matchers::ContainsSubstring("ended before its last update") &&
                       Catch::Matchers::ContainsSubstring("What is"));
}

TEST_CASE("What contradicts itself in a GRPO recipe is said before anything is sampled", "[end_to_end]") {
  const ProgramRun no_column = GrpoJob("num_generations: 4, rewards: [{name: math_answer, column: solution}]")
                                   .run(1, "run", {"training.per_device_train_batch_size=4"});
  CHECK(no_column.exit_code == 3);
  CHECK_THAT(no_column.err, Catch::Matchers::ContainsSubstring("train.jsonl:1: there is no column \"solution\""));
  const GrpoJob job(kShort);
  const ProgramRun checked =
      run_dsft({"check", "--json", job.recipe, "training.per_device_train_batch_size=16"}, job.folder);
  INFO(checked.err);
  REQUIRE(checked.exit_code == 0);
  const auto plan = nlohmann::json::parse(checked.out).at("plan");
  CHECK(plan.at("train_rows") == 8);
  CHECK(plan.at("num_steps") == 3 * 2);
  CHECK_THAT(plan.at("round").get<std::string>(), Catch::Matchers::StartsWith("4 prompts x 4 completions = 16 rows"));
  const ProgramRun no_groups = job.run(1, "run", {"training.per_device_train_batch_size=6"});
  CHECK(no_groups.exit_code == 2);
  CHECK_THAT(no_groups.err, Catch::Matchers::ContainsSubstring("no whole groups"));
  const ProgramRun no_rows = job.run(1, "run", {"training.per_device_train_batch_size=64"});
  CHECK(no_rows.exit_code == 2);
  CHECK_THAT(no_rows.err, Catch::Matchers::ContainsSubstring("8 rows an epoch"));
  const ProgramRun dropout = job.run(1, "run", {"lora.lora_dropout=0.1", "grpo.disable_dropout=true"});
  CHECK(dropout.exit_code == 2);
  CHECK_THAT(dropout.err, Catch::Matchers::ContainsSubstring(
                              "command line: override 3: grpo.disable_dropout: contradicts `lora.lora_dropout`"));
}

TEST_CASE("A GRPO run that has no memory is told of nothing that does not cut its rows", "[end_to_end]") {
  const GrpoJob job(kShort);
  std::string words;
  while (words.size() < 5'000'000) words += "word ";
  job.folder.write("train.jsonl", R"({"prompt": ")" + words + "\"}\n");
  const ProgramRun run = run_dsft(
      {"train", job.recipe}, job.folder, "",
      {{"LD_PRELOAD", std::string(DSFT_BIN_DIR) + "/libdsft_fault_injection.so"}, {"DSFT_FAULT_NEW", "4000000"}});
  INFO(run.err);
  CHECK(run.exit_code == 5);
  CHECK_THAT(run.err, Catch::Matchers::ContainsSubstring("a smaller grpo.max_completion_length, shorter prompts") &&
                          !Catch::Matchers::ContainsSubstring("data.max_length") &&
                          !Catch::Matchers::ContainsSubstring("auto_find_batch_size"));
}

TEST_CASE("check and the run judge the columns of a row alike", "[end_to_end]") {
  const auto require_alike = [](const GrpoJob& job, int exit_code, const std::string& words) {
    const std::vector<std::string> settings = {"training.per_device_train_batch_size=4", "training.max_steps=1"};
    std::vector<std::string> check = {"check", job.recipe};
    check.insert(check.end(), settings.begin(), settings.end());
    for (const ProgramRun& run : {run_dsft(check, job.folder), job.run(1, "run", settings)}) {
      INFO(run.err);
      CHECK(run.exit_code == exit_code);
      CHECK_THAT(run.err, Catch::Matchers::ContainsSubstring(words));
    }
  };
  const auto job_of = [](const std::string& reward) {
    return GrpoJob("num_generations: 4, max_completion_length: 4, rewards: [" + reward + "]");
  };
  // rows that end with the assistant's message
  require_alike(job_of("{name: tool_call, column: completion}"), 0, "");
  const GrpoJob instructed = job_of("{name: math_answer, column: input}");
  instructed.folder.write("train.jsonl", R"({"instruction": "Add.", "input": "2 + 2", "output": "4"})"
                                         "\n");
  require_alike(instructed, 3, "train.jsonl:1: there is no column \"input\"");
  const GrpoJob nothing = job_of("json_valid");
  nothing.folder.write("train.jsonl", R"({"prompt": null, "answer": "4"})"
                                      "\n");
  require_alike(nothing, 3, "train.jsonl:1: the row has the fields \"prompt\" and \"answer\"");
}

}  // namespace dsft::test

// Runs of GRPO that go on inside a round of sampling.
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/agents_job.h"
#include "end_to_end/grpo_job.h"
#include "end_to_end/reward_program.h"

namespace dsft::test {
namespace {

using Catch::Matchers::ContainsSubstring;

// All that a run computes; how long it takes is another matter.
std::vector<nlohmann::json> computed(std::vector<nlohmann::json> lines) {
  for (nlohmann::json& line : lines)
    for (const char* name :
         {"tokens_per_second", "step_time", "peak_memory_gib", "rollout/sampling_seconds",
          "rollout/waiting_for_rewards_seconds", "rollout/scoring_seconds", "rollout/tokens_per_second"})
      line.erase(name);
  return lines;
}

void require_success(const ProgramRun& run) {
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
}

std::vector<std::string> joined(std::vector<std::string> settings, const std::vector<std::string>& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

std::vector<std::string> sizes(int rows, int accumulation, int save_steps) {
  return {"training.max_steps=6",
          "training.per_device_train_batch_size=" + std::to_string(rows),
          "training.gradient_accumulation_steps=" + std::to_string(accumulation),
          "training.learning_rate=1.0e-3",
          "training.save_strategy=steps",
          "training.save_total_limit=3",
          "training.save_steps=" + std::to_string(save_steps)};
}

std::vector<std::string> from(const GrpoRuns& job, const std::string& checkpoint) {
  return {"training.resume_from_checkpoint=" + job.in(checkpoint)};
}

std::string weights(const GrpoRuns& job, const std::string& file) {
  return read_file(job.folder / file);
}

// Takes a file out of a checkpoint and its manifest, as if it had never been written.
void forget(const std::filesystem::path& checkpoint, const std::string& file) {
  std::filesystem::remove(checkpoint / file);
  const std::filesystem::path path = checkpoint / "dsft_state/manifest.json";
  nlohmann::json manifest = nlohmann::json::parse(read_file(path));
  REQUIRE(manifest.at("files").erase(file) == 1);
  std::ofstream(path) << manifest.dump();
}

constexpr const char* kRound = "dsft_state/round.safetensors";

}  // namespace

TEST_CASE("A run that goes on inside a round trains what is left of it as one that was not stopped",
          "[end_to_end][slow]") {
  struct Case {
    std::string name, grpo, sections;
    std::vector<std::string> settings;
    int saved_step;  // inside a round
  };
  const std::string lora = "lora: {r: 8, lora_alpha: 16}\n";
  const auto tried = GENERATE_COPY(values<Case>(
      {{"a round of two updates", ", steps_per_generation: 4", lora, sizes(8, 2, 3), 3},
       {"in the first use", ", num_iterations: 2, beta: 0.05", "lora: {r: 8, lora_alpha: 16, lora_dropout: 0.05}\n",
        sizes(8, 2, 3), 3},
       {"in the last use", ", num_iterations: 2, steps_per_generation: 4", lora, sizes(8, 2, 3), 3},
       {"an update of two rounds", ", steps_per_generation: 3", lora, sizes(4, 2, 2), 2},
       {"entropies",
        ", steps_per_generation: 4, use_adaptive_entropy: true, entropy_coef: 0.02, entropy_target: 100, "
        "top_entropy_quantile: 0.5, mask_truncated_completions: true",
        lora, sizes(8, 2, 3), 3},
       {"a reference that follows",
        ", steps_per_generation: 4, beta: 0.05, sync_ref_model: true, ref_model_sync_steps: 1", "", sizes(8, 2, 3), 3},
       {"to the bit", ", steps_per_generation: 4", lora, joined(sizes(8, 2, 3), {"training.full_determinism=true"}),
        3}}));
  INFO(tried.name);
  const GrpoJob job(kShort + tried.grpo, tried.sections);
  require_success(job.run(1, "whole", tried.settings));
  const std::string checkpoint = "whole/checkpoint-" + std::to_string(tried.saved_step);
  REQUIRE(std::filesystem::exists(job.folder / checkpoint / kRound));
  const ProgramRun rest = job.run(1, "rest", joined(tried.settings, from(job, checkpoint)));
  require_success(rest);
  CHECK_THAT(rest.err, !ContainsSubstring("inside a round"));
  const auto lines = computed(job.metrics("whole"));
  REQUIRE(lines.size() == 6);
  CHECK(computed(job.metrics("rest")) == lines);
  const std::string file = tried.sections.empty() ? "model.safetensors" : "adapter_model.safetensors";
  CHECK(weights(job, "rest/" + file) == weights(job, "whole/" + file));
  // what was sampled before is not sampled, nor written, again
  std::vector<nlohmann::json> later;
  for (const nlohmann::json& sample : read_lines(job.folder / "whole" / "completions.jsonl"))
    if (sample.at("step") > tried.saved_step) later.push_back(sample);
  CHECK(read_lines(job.folder / "rest" / "completions.jsonl") == later);
}

TEST_CASE("What ranks have left of a round another number of ranks trains", "[end_to_end][slow]") {
  const std::string sections = GENERATE("lora: {r: 8, lora_alpha: 16}\n", "zero: {stage: 3}\n");
  INFO(sections);
  const GrpoJob job(kShort + ", steps_per_generation: 4, num_iterations: 2, beta: 0.05", sections);
  require_success(job.run(2, "whole", sizes(4, 2, 3)));
  const auto checkpoint = from(job, "whole/checkpoint-3");
  require_success(job.run(2, "together", joined(sizes(4, 2, 3), checkpoint)));
  CHECK(computed(job.metrics("together")) == computed(job.metrics("whole")));
  const ProgramRun alone = job.run(1, "alone", joined(sizes(8, 2, 3), checkpoint));
  require_success(alone);
  CHECK_THAT(alone.err, !ContainsSubstring("inside a round"));
  require_same_course(job.metrics("alone"), job.metrics("whole"));
  CHECK(job.completions("alone") == job.completions("together"));
}

TEST_CASE("Agents and those whom they listen to go on inside a round", "[end_to_end][slow]") {
  const AgentsJob job(Task::kNothing);
  const std::vector<std::string> settings =
      joined(sizes(18, 1, 2), {"grpo.steps_per_generation=3", "grpo.num_generations=2", "grpo.temperature=1.0",
                               "grpo.ensemble={combine: learned, agreement_weight: 1.0, pool_learning_rate: 0.1}",
                               "grpo.rewards=[{name: length, unit: characters, max: 1, ramp: 50}, math_answer]"});
  require_success(job.run(1, "whole", settings));
  require_success(job.run(1, "rest", joined(settings, from(job, "whole/checkpoint-2"))));
  CHECK(computed(job.metrics("rest")) == computed(job.metrics("whole")));
  for (const char* file : {"/model.safetensors", "/ensemble.safetensors"})
    CHECK(weights(job, std::string("rest") + file) == weights(job, std::string("whole") + file));
}

TEST_CASE("Whom to listen to is not learned from a round whose rewards failed", "[end_to_end][slow]") {
  const AgentsJob job(Task::kOneKnows);
  const std::string command = write_reward_program(job.folder, "size",
                                                   "if r['step'] == 4 and os.path.exists(sys.argv[1]): sys.exit(1)\n"
                                                   "rewards = [len(json.dumps(c)) % 7 for c in r['completions']]");
  std::vector<std::string> settings = {
      "grpo.ensemble={combine: learned, agreement_weight: 0, pool_learning_rate: 0.5}", "training.max_steps=5",
      "lora={r: 4}", "grpo.temperature=1.0",
      "grpo.rewards=[{command: '" + command + " " + job.in("armed") + "', name: size}, math_answer]"};
  require_success(job.run(1, "whole", settings));
  job.folder.write("armed", "");
  const ProgramRun failed = job.run(1, "failing", settings);
  INFO(failed.err);
  REQUIRE(failed.exit_code == 3);
  REQUIRE(job.metrics("failing").size() == 3);
  std::filesystem::remove(job.folder / "armed");
  settings.emplace_back("training.resume_from_checkpoint=true");
  require_success(job.run(1, "failing", settings));
  CHECK(computed(job.metrics("failing")) == computed(job.metrics("whole")));
  for (const char* file : {"/adapter_model.safetensors", "/ensemble.safetensors"})
    CHECK(weights(job, std::string("failing") + file) == weights(job, std::string("whole") + file));
}

TEST_CASE("A run that is asked to stop while it waits for rewards goes on behind its last update", "[end_to_end]") {
  const GrpoJob job(kShort + ", steps_per_generation: 4");
  const std::string armed = job.in("armed");
  const std::string command = write_reward_program(job.folder, "size",
                                                   "if r['step'] == 3 and os.path.exists(sys.argv[1]):\n"
                                                   "  os.remove(sys.argv[1])\n"
                                                   "  os.kill(os.getppid(), signal.SIGTERM)\n"
                                                   "  time.sleep(600)\n"
                                                   "rewards = [len(json.dumps(c)) % 7 for c in r['completions']]");
  std::vector<std::string> settings = joined(sizes(8, 2, 100), {"grpo.rewards=[{command: '" + command + " " + armed +
                                                                "', name: size, workers: 1, timeout_s: 500}]"});
  require_success(job.run(1, "whole", settings));
  job.folder.write("armed", "");
  const ProgramRun stopped = job.run(1, "run", settings);
  INFO(stopped.err);
  REQUIRE(stopped.exit_code == 75);
  CHECK(job.metrics("run").size() == 2);
  settings.emplace_back("training.resume_from_checkpoint=true");
  require_success(job.run(1, "run", settings));
  CHECK(computed(job.metrics("run")) == computed(job.metrics("whole")));
  CHECK(job.completions("run") == job.completions("whole"));
}

TEST_CASE("A run that goes on with other rounds trains to its last update, and counts its updates on", "[end_to_end]") {
  const GrpoJob job(kShort);
  require_success(job.run(1, "run", sizes(16, 1, 100)));  // an epoch has four rounds
  const auto more = [](std::vector<std::string> settings, int last) {
    settings.emplace_back("training.max_steps=" + std::to_string(last));
    settings.emplace_back("training.resume_from_checkpoint=true");
    return settings;
  };
  require_success(job.run(1, "run", more(sizes(8, 1, 100), 9)));
  require_success(job.run(1, "run", more(sizes(8, 2, 100), 12)));
  CHECK(job.metrics("run").size() == 12);
  std::map<int64_t, int64_t> sampled;
  for (const nlohmann::json& line : read_lines(job.folder / "run" / "completions.jsonl"))
    ++sampled[line.at("step").get<int64_t>()];
  REQUIRE(sampled.size() == 12);
  for (const auto& [step, count] : sampled) CHECK(count == (step > 6 && step <= 9 ? 8 : 16));
  const ProgramRun done = job.run(1, "run", more(sizes(8, 2, 100), 11));
  require_success(done);
  CHECK_THAT(done.err, ContainsSubstring("at step 12, and by the recipe the run ends at 11"));
}

TEST_CASE("What is left of a round that a checkpoint does not hold is sampled again", "[end_to_end]") {
  const GrpoJob job(kShort + ", steps_per_generation: 4");
  const std::vector<std::string> settings = sizes(8, 2, 3);
  const ProgramRun first = job.run(1, "run", settings);
  require_success(first);
  CHECK_THAT(first.err, ContainsSubstring("the loss says little here: every ratio is 1 until the first update"));
  const auto before = computed(job.metrics("run"));
  REQUIRE(before.size() == 6);
  const std::string checkpoint = "run/checkpoint-3";
  CHECK_FALSE(std::filesystem::exists(job.folder / "run/checkpoint-6" / kRound));  // between two rounds

  // log-probabilities of another temperature are nothing to compare with
  const ProgramRun warmer =
      job.run(1, "other", joined(joined(settings, from(job, checkpoint)), {"grpo.temperature=0.9"}));
  require_success(warmer);
  CHECK_THAT(warmer.err, ContainsSubstring("or the rounds, grpo.temperature or grpo.beta have changed"));

  // damaged, and whole but for what it says
  const std::string round = read_file(job.folder / checkpoint / kRound);
  job.folder.write(checkpoint + "/" + kRound, round.substr(0, round.size() - 4) + "abcd");
  const ProgramRun damaged = job.run(1, "other", joined(settings, from(job, checkpoint)));
  CHECK(damaged.exit_code == 4);
  CHECK_THAT(damaged.err, ContainsSubstring("dsft_state/round.safetensors does not have its checksum"));
  forget(job.folder / checkpoint, kRound);
  job.folder.write(checkpoint + "/" + kRound, round.substr(0, round.size() - 4));
  const ProgramRun cut = job.run(1, "other", joined(settings, from(job, checkpoint)));
  INFO(cut.err);
  CHECK(cut.exit_code == 4);
  CHECK_THAT(cut.err, ContainsSubstring("dsft_state/round.safetensors"));
  std::filesystem::remove(job.folder / checkpoint / kRound);

  // as a version saved it that did not keep rounds
  const std::string earlier = read_file(job.folder / "run" / "completions.jsonl");
  std::filesystem::remove_all(job.folder / "run" / "checkpoint-6");
  const ProgramRun again = job.run(1, "run", joined(settings, {"training.resume_from_checkpoint=true"}));
  require_success(again);
  CHECK_THAT(again.err, ContainsSubstring("the checkpoint lies inside a round of sampling and does not hold"));
  const auto after = computed(job.metrics("run"));
  REQUIRE(after.size() == 6);
  CHECK(after[2] == before[2]);
  CHECK(after[3].at("reward") != before[3].at("reward"));  // by the policy as it is at the fourth update
  const auto samples = read_lines(job.folder / "run" / "completions.jsonl");
  REQUIRE(samples.size() == 4 * 32);
  for (size_t i = 0; i < samples.size(); ++i) {
    CHECK(samples[i].at("step") == std::vector<int>{1, 3, 4, 5}[i / 32]);
    CHECK(samples[i].at("prompt") == samples[i - i % 4].at("prompt"));  // groups stand together
  }
}

}  // namespace dsft::test

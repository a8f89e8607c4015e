// Policies on two GPUs beside one.
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/agents_job.h"

namespace dsft::test {
namespace {

bool has_two_gpus(const TempDir& folder) {
  const auto facts = json::parse(run_dsft({"env", "--json"}, folder, "0,1").out);
  return facts["cuda_built_in"].get<bool>() && facts["gpus"].size() >= 2;
}

ProgramRun run_on_gpus(const GrpoRuns& job, int num_gpus, const std::string& output,
                       std::vector<std::string> overrides) {
  std::vector<std::string> arguments = {
      "launch",      "--num-gpus",      std::to_string(num_gpus), job.recipe, "output_dir=" + job.in(output),
      "device=cuda", "model.dtype=bf16"};
  arguments.insert(arguments.end(), overrides.begin(), overrides.end());
  return run_dsft(arguments, job.folder, num_gpus == 1 ? "0" : "0,1");
}

// The job's model with heads of 64, for which GPUs have the bitwise mode.
std::string make_wide_model(const GrpoJob& job) {
  json config;
  std::ifstream(job.in("config.json")) >> config;
  config["hidden_size"] = 128;
  config["num_attention_heads"] = 2;
  config["num_key_value_heads"] = 1;
  job.folder.write("wide.json", config.dump());
  const ProgramRun made = run_dsft(
      {"init-model", "--config", job.in("wide.json"), "--tokenizer", job.in("model"), "--output", job.in("wide")},
      job.folder);
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  return job.in("wide");
}

/// The same rounds of 32 completions in the bitwise mode, on one GPU and on two.
struct BitwiseRuns {
  std::vector<json> alone, together;

  BitwiseRuns(const GrpoJob& job, const std::string& model, int num_updates, const std::string& learning_rate) {
    const auto run = [&](int num_gpus, const std::string& output) {
      const ProgramRun ended =
          run_on_gpus(job, num_gpus, output,
                      {"model.path=" + model, "training.full_determinism=true",
                       "training.max_steps=" + std::to_string(num_updates), "training.learning_rate=" + learning_rate,
                       "training.weight_decay=0", "training.gradient_accumulation_steps=2",
                       "training.per_device_train_batch_size=" + std::to_string(16 / num_gpus)});
      INFO(ended.err);
      REQUIRE(ended.exit_code == 0);
      if (num_gpus > 1) CHECK_THAT(ended.err + ended.out, Catch::Matchers::ContainsSubstring("are equal bit for bit"));
      const auto lines = job.metrics(output);
      REQUIRE(lines.size() == static_cast<size_t>(num_updates));
      REQUIRE(job.completions(output).size() == static_cast<size_t>(num_updates) * 32);
      return lines;
    };
    alone = run(1, "alone");
    together = run(2, "together");
  }
};

}  // namespace

TEST_CASE("In the bitwise mode two GPUs sample what one does, on-policy to the last bit", "[end_to_end][gpu]") {
  const std::string sections = GENERATE("lora: {r: 8, lora_alpha: 16}\n", "zero: {stage: 3}\n");
  INFO(sections);
  const GrpoJob job(kShort, sections);
  if (!has_two_gpus(job.folder)) SKIP("no two GPUs");
  const BitwiseRuns runs(job, make_wide_model(job), 5, "1.0e-4");
  const auto first_round = [&](const std::string& output) {
    std::multiset<std::string> first;
    for (const std::string& line : job.completions(output))
      if (json::parse(line).at("step") == 1) first.insert(line);
    return first;
  };
  CHECK(first_round("together") == first_round("alone"));
  const auto &expected = runs.alone, &given = runs.together;
  for (size_t i = 0; i < expected.size(); ++i) {
    INFO(given[i].dump() << "\n" << expected[i].dump());
    CHECK(given[i].at("sampling/sampling_logp_difference/max") == 0);
    CHECK(expected[i].at("sampling/sampling_logp_difference/max") == 0);
    // sums of gradients have another order: what is sampled behind them may differ in a token
    CHECK(given[i].at("reward").get<double>() == Catch::Approx(expected[i].at("reward").get<double>()).epsilon(0.02));
    CHECK(given[i].at("grad_norm").get<double>() ==
          Catch::Approx(expected[i].at("grad_norm").get<double>()).epsilon(i == 0 ? 1e-3 : 0.1));
  }
}

TEST_CASE("In the bitwise mode two GPUs sample round after round what one does", "[end_to_end][gpu]") {
  const GrpoJob job(kShort);
  if (!has_two_gpus(job.folder)) SKIP("no two GPUs");
  const BitwiseRuns runs(job, make_wide_model(job), 4, "0");  // the policy stays as it is
  CHECK(job.completions("together") == job.completions("alone"));
  const auto &expected = runs.alone, &given = runs.together;
  for (size_t i = 0; i < expected.size(); ++i) {
    INFO(given[i].dump() << "\n" << expected[i].dump());
    for (const char* name : {"reward", "loss", "grad_norm", "entropy"})
      CHECK(given[i].at(name).get<double>() ==
            Catch::Approx(expected[i].at(name).get<double>()).epsilon(1e-3).margin(1e-6));
  }
}

TEST_CASE("Agents are asked on two GPUs that have a part of the weights each", "[end_to_end][gpu]") {
  const AgentsJob job(Task::kThirds);
  if (!has_two_gpus(job.folder)) SKIP("no two GPUs");
  const std::string combine = GENERATE("vote", "mean");
  INFO(combine);
  const ProgramRun run = run_on_gpus(job, 2, "grpo",
                                     {"grpo.ensemble.combine=" + combine, "zero.stage=3", "training.max_steps=2",
                                      "training.per_device_train_batch_size=18"});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const auto lines = job.metrics("grpo");
  REQUIRE(lines.size() == 2);
  for (const json& line : lines) {
    INFO(line.dump());
    const double accuracy = line.at("ensemble/accuracy");
    CHECK(accuracy > 0.9);
    for (const std::string& name : kNames)
      CHECK(line.at("agents/" + name + "/accuracy").get<double>() < accuracy - 0.1);
  }
}

}  // namespace dsft::test

#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/run_dsft.h"

namespace dsft::test {

using Metrics = std::map<std::string, double>;

/// The numbers of an evaluation, which a line of metrics.jsonl and the document of `dsft eval` have.
inline Metrics evaluation_of(const nlohmann::json& line) {
  Metrics metrics;
  for (const auto& [name, value] : line.items())
    if (name.starts_with("eval_")) metrics[name] = value.get<double>();
  return metrics;
}

inline void require_equal(const Metrics& given, const Metrics& expected, double epsilon = 0) {
  REQUIRE(given.size() == expected.size());
  for (const auto& [name, value] : expected) {
    INFO(name);
    CHECK(given.at(name) == Catch::Approx(value).epsilon(epsilon).margin(epsilon));
  }
}

/// The updates of two runs of the same completions, of which sums may have other orders.
inline void require_same_course(const std::vector<nlohmann::json>& given, const std::vector<nlohmann::json>& expected) {
  REQUIRE(given.size() == expected.size());
  for (size_t i = 0; i < given.size(); ++i) {
    INFO("update " << i + 1 << ": " << given[i].dump() << "\n" << expected[i].dump());
    for (const char* name : {"reward", "reward_std", "rewards/length/mean", "completions/mean_length",
                             "completions/clipped_ratio", "frac_reward_zero_std"})
      CHECK(given[i].at(name).get<double>() == Catch::Approx(expected[i].at(name).get<double>()).epsilon(1e-9));
    for (const char* name : {"loss", "grad_norm", "entropy", "kl"})
      if (expected[i].contains(name))
        CHECK(given[i].at(name).get<double>() ==
              Catch::Approx(expected[i].at(name).get<double>()).epsilon(2e-5).margin(1e-7));
  }
}

/// A GRPO recipe and what runs of it leave.
struct GrpoRuns {
  TempDir folder;
  std::string recipe = {};

  std::string in(const std::string& name) const { return (folder / name).string(); }

  ProgramRun run(int ranks, const std::string& output, std::vector<std::string> overrides) const {
    std::vector<std::string> arguments = {"launch", "--num-procs", std::to_string(ranks), recipe,
                                          "output_dir=" + in(output)};
    if (ranks == 1) arguments = {"train", recipe, "output_dir=" + in(output)};
    arguments.insert(arguments.end(), overrides.begin(), overrides.end());
    return run_dsft(arguments, folder);
  }
  std::vector<nlohmann::json> metrics(const std::string& output) const {
    return read_lines(folder / output / "metrics.jsonl");
  }
  /// By step, what evaluations gave.
  std::map<int64_t, Metrics> evaluations(const std::string& output) const {
    std::map<int64_t, Metrics> all;
    for (const auto& line : metrics(output))
      if (line.contains("eval_reward")) all[line.at("step").get<int64_t>()] = evaluation_of(line);
    return all;
  }
  /// What was sampled, whichever rank did it.
  std::multiset<std::string> completions(const std::string& output) const {
    std::multiset<std::string> all;
    for (nlohmann::json line : read_lines(folder / output / "completions.jsonl")) {
      line.erase("advantage");  // rounded
      all.insert(line.dump());
    }
    return all;
  }
};

/// A tiny model that answers with any tokens, and a GRPO recipe for it.
struct GrpoJob : GrpoRuns {
  explicit GrpoJob(const std::string& grpo, const std::string& sections = "lora: {r: 8, lora_alpha: 16}\n") {
    make_tiny_job(folder, "");
    recipe =
        folder
            .write("grpo.yaml",
                   "recipe: grpo\noutput_dir: " + in("run") + "\nmodel: {path: " + in("model") +
                       ", dtype: fp32}\ndevice: cpu\n" + sections + "data: {train: [" + in("train.jsonl") +
                       "], chat_template: " + in("chatml.jinja") + "}\ngrpo: {" + grpo +
                       "}\ntraining: {learning_rate: 1.0e-2, lr_scheduler_type: constant, logging_steps: 1, report_to: "
                       "[none], save_strategy: \"no\"}\n")
            .string();
  }
};

/// Short texts are worth most.
inline const std::string kShort =
    "num_generations: 4, max_completion_length: 12, rewards: [{name: length, unit: characters, max: 1, ramp: 50}, "
    "{name: unique_characters, weight: 0.25}]";

}  // namespace dsft::test

#pragma once

#include <set>
#include <string>
#include <vector>

#include "end_to_end/run_dsft.h"

namespace dsft::test {

/// A tiny model that answers with any tokens, and a GRPO recipe for it.
struct GrpoJob {
  TempDir folder;
  std::string recipe;

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

/// Short texts are worth most.
inline const std::string kShort =
    "num_generations: 4, max_completion_length: 12, rewards: [{name: length, unit: characters, max: 1, ramp: 50}, "
    "{name: unique_characters, weight: 0.25}]";

}  // namespace dsft::test

#pragma once

#include <unistd.h>

#include <string>
#include <vector>

#include "process/process_tree.h"
#include "rewards/scorer.h"
#include "support/fixtures.h"

namespace dsft::rewards {

using Values = std::vector<std::optional<double>>;

/// What the fixture program does in a mode.
inline RewardConfig program(const std::string& mode, double timeout_s = 20, int64_t workers = 1,
                            const std::string& file = "") {
  return {.name = mode,
          .weight = {},
          .label = "",
          .function = ProgramConfig{"python3 " + test::fixture_path("rewards/program.py").string() + " " + mode +
                                        (file.empty() ? "" : " " + file),
                                    timeout_s, workers}};
}

inline std::vector<Sample> samples_of(const std::vector<std::string>& texts) {
  std::vector<Sample> samples;
  for (const std::string& text : texts) {
    Sample sample;
    sample.prompt = "p";
    sample.completion = text;
    sample.text = text;
    sample.columns = {{"answer", text}};
    samples.push_back(std::move(sample));
  }
  return samples;
}

inline Scores score(const std::vector<RewardConfig>& rewards, const std::vector<std::string>& texts,
                    ScorerOptions options = {}) {
  Scorer scorer(rewards, options, Logger(0, true));
  scorer.submit(1, 0, samples_of(texts));
  return scorer.collect();
}

inline Values column(const Scores& scores, size_t function) {
  Values values;
  for (const auto& row : scores.rewards) values.push_back(row.at(function));
  return values;
}

/// Whether a process of this one is left.
inline bool has_reward_processes() {
  for (const process::ProcessId& process : process::find_descendants(::getpid())) {
    if (process::is_running(process)) return true;
  }
  return false;
}

}  // namespace dsft::rewards

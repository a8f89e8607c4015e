#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/words.h"

namespace dsft::config {
class Fields;
class Section;
}  // namespace dsft::config

namespace dsft::evaluate {

/// kPassAtK is the metric of a grpo recipe, measured by its rewards (docs/grpo.md); the others are those of sft.
enum class Metric { kLoss, kExactMatch, kToolCall, kPassAtK };

constexpr auto words_of(Metric) {
  return std::to_array<config::Word<Metric>>({{"loss", Metric::kLoss},
                                              {"exact_match", Metric::kExactMatch},
                                              {"tool_call", Metric::kToolCall},
                                              {"cer", {}, "the vision recipe"},
                                              {"wer", {}, "the vision recipe"},
                                              {"pass_at_k", Metric::kPassAtK},
                                              {"language_share", {}, "the gpt-oss recipe"}});
}

/// eval.pass_reward for the weighted sum of all rewards.
inline constexpr const char* kSumOfRewards = "reward";

/// The recipe's section `eval`.
struct EvalConfig {
  std::vector<Metric> metrics = {Metric::kLoss};
  std::optional<int64_t> num_samples;  ///< rows for the metrics that generate; none: all
  int64_t max_new_tokens = 256;
  double temperature = 0.0;  ///< 0: greedy
  /// By which a completion passes: the metric name of a reward of grpo.rewards, or kSumOfRewards; none: the first.
  std::optional<std::string> pass_reward;
  double pass_threshold = 1.0;  ///< the least value of a completion that passes
};

void describe_fields(config::Fields& fields, EvalConfig& config);
/// No metric at all; what only a metric that generates uses.
void validate(const EvalConfig& config, config::Section& section);

}  // namespace dsft::evaluate

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "config/words.h"

namespace dsft::config {
class Fields;
class Section;
}  // namespace dsft::config

namespace dsft::evaluate {

enum class Metric { kLoss, kExactMatch, kToolCall };

constexpr auto words_of(Metric) {
  return std::to_array<config::Word<Metric>>({{"loss", Metric::kLoss},
                                              {"exact_match", Metric::kExactMatch},
                                              {"tool_call", Metric::kToolCall},
                                              {"cer", {}, "the vision recipe"},
                                              {"wer", {}, "the vision recipe"},
                                              {"pass_at_k", {}, "the GRPO recipe"},
                                              {"language_share", {}, "the gpt-oss recipe"}});
}

/// The recipe's section `eval`.
struct EvalConfig {
  std::vector<Metric> metrics = {Metric::kLoss};
  std::optional<int64_t> num_samples;  ///< rows for the metrics that generate; none: all
  int64_t max_new_tokens = 256;
  double temperature = 0.0;  ///< 0: greedy
};

void describe_fields(config::Fields& fields, EvalConfig& config);
/// No metric at all; what only a metric that generates uses.
void validate(const EvalConfig& config, config::Section& section);

}  // namespace dsft::evaluate

#include "evaluate/eval_config.h"

#include <algorithm>

#include "config/fields.h"
#include "config/section.h"

namespace dsft::evaluate {

void describe_fields(config::Fields& fields, EvalConfig& config) {
  fields.add("metrics", config.metrics, "What is measured on the evaluation data; pass_at_k: by grpo.rewards")
      .default_note = "`[loss]`, in a grpo recipe `[pass_at_k]`";
  fields.add("num_samples", config.num_samples, "Rows for the metrics that generate; null: all", config::at_least(1));
  fields.add("max_new_tokens", config.max_new_tokens, "Longest answer in tokens", config::at_least(1));
  fields.add("temperature", config.temperature, "0: greedy", config::at_least(0));
  fields.add("pass_reward", config.pass_reward,
             "pass_at_k: the reward by which a completion passes, by its name in metrics, or reward for the weighted "
             "sum; null: the first of grpo.rewards");
  fields.add("pass_threshold", config.pass_threshold, "The least value of that reward with which it passes");
}

void validate(const EvalConfig& config, config::Section& section) {
  if (config.metrics.empty())
    section.fault("metrics", "is an empty list; an evaluation measures something: write [loss]");
  const auto measures = [&](Metric metric) {
    return std::find(config.metrics.begin(), config.metrics.end(), metric) != config.metrics.end();
  };
  const bool compares = measures(Metric::kExactMatch) || measures(Metric::kToolCall);
  const bool judges = measures(Metric::kPassAtK);
  // a value equal to its default asks for nothing: resolved.yaml writes them all
  const EvalConfig none;
  const char* none_generates = "no metric of eval.metrics generates answers";
  if (!compares && !judges && config.num_samples != none.num_samples) section.no_effect("num_samples", none_generates);
  if (!compares) {
    const char* reason = judges ? "pass_at_k samples as section grpo says" : none_generates;
    if (config.max_new_tokens != none.max_new_tokens) section.no_effect("max_new_tokens", reason);
    if (config.temperature != none.temperature) section.no_effect("temperature", reason);
  }
  if (!judges) {
    const char* reason = "eval.metrics has no pass_at_k";
    if (config.pass_reward) section.no_effect("pass_reward", reason);
    if (config.pass_threshold != none.pass_threshold) section.no_effect("pass_threshold", reason);
  }
}

}  // namespace dsft::evaluate

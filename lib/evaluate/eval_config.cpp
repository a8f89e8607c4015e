#include "evaluate/eval_config.h"

#include <algorithm>

#include "config/fields.h"
#include "config/section.h"

namespace dsft::evaluate {

void describe_fields(config::Fields& fields, EvalConfig& config) {
  fields.add("metrics", config.metrics, "What is measured on the evaluation data");
  fields.add("num_samples", config.num_samples, "Rows for the metrics that generate; null: all", config::at_least(1));
  fields.add("max_new_tokens", config.max_new_tokens, "Longest answer in tokens", config::at_least(1));
  fields.add("temperature", config.temperature, "0: greedy", config::at_least(0));
}

void validate(const EvalConfig& config, config::Section& section) {
  if (config.metrics.empty())
    section.fault("metrics", "is an empty list; an evaluation measures something: write [loss]");
  const bool generates =
      std::any_of(config.metrics.begin(), config.metrics.end(), [](Metric metric) { return metric != Metric::kLoss; });
  if (generates) return;
  // a value equal to its default asks for nothing: resolved.yaml writes them all
  const EvalConfig none;
  const char* reason = "no metric of eval.metrics generates answers";
  if (config.num_samples != none.num_samples) section.no_effect("num_samples", reason);
  if (config.max_new_tokens != none.max_new_tokens) section.no_effect("max_new_tokens", reason);
  if (config.temperature != none.temperature) section.no_effect("temperature", reason);
}

}  // namespace dsft::evaluate

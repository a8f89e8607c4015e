#include "evaluate/eval_config.h"

#include "config/fields.h"

namespace dsft::evaluate {

void describe_fields(config::Fields& fields, EvalConfig& config) {
  fields.add("metrics", config.metrics, "What is measured on the evaluation data");
  fields.add("num_samples", config.num_samples, "Rows for the metrics that generate; null: all", config::at_least(1));
  fields.add("max_new_tokens", config.max_new_tokens, "Longest answer in tokens", config::at_least(1));
  fields.add("temperature", config.temperature, "0: greedy", config::at_least(0));
}

}  // namespace dsft::evaluate

// Keys that are accepted and change nothing are named, and empty ones are refused.
#include "catch_amalgamated.hpp"
#include "recipe_config/recipe_config.h"
#include "support/fixtures.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string said(const std::string& addition, bool is_fault = false, const std::string& data = "{train: [t.jsonl]}",
                 const std::string& model = "{path: models/m}") {
  const auto reading = recipe_config::read_recipe_text(
      "recipe: sft\noutput_dir: runs/a\nmodel: " + model + "\ndata: " + data + "\n" + addition, "r.yaml");
  std::string all;
  for (const config::Fault& found : is_fault ? reading.faults : reading.warnings) all += to_string(found) + "\n";
  return all;
}

}  // namespace

TEST_CASE("keys without effect are named", "[recipe_config]") {
  CHECK_THAT(said("training: {save_strategy: no, save_total_limit: 5, save_only_model: true}\n"),
             ContainsSubstring("training.save_total_limit: has no effect") &&
                 ContainsSubstring("training.save_only_model: has no effect"));
  CHECK_THAT(said("eval: {num_samples: 4, max_new_tokens: 8, temperature: 1}\n"),
             ContainsSubstring("eval.num_samples: has no effect") &&
                 ContainsSubstring("eval.max_new_tokens: has no effect") &&
                 ContainsSubstring("eval.temperature: has no effect"));
  CHECK(said("eval: {metrics: [loss, exact_match], num_samples: 4, max_new_tokens: 8, temperature: 1}\n") == "");
  CHECK_THAT(said("", false, "{train: [t.jsonl], eval: [{path: e.jsonl, weight: 2}]}"),
             ContainsSubstring("data.eval: the weight of a file has no effect here"));
  CHECK_THAT(said("", false, "{train: [t.jsonl], num_workers: 100000}"),
             ContainsSubstring("data.num_workers: more than"));
  CHECK_THAT(said("zero: {stage: 0, overlap_comm: false}\n"), ContainsSubstring("stage 0 shards nothing"));
  CHECK(said("zero: {stage: 2, overlap_comm: false}\n") == "");
  CHECK_THAT(said("zero: {stage: 2, reduce_bucket_size: 1000, stage3_max_live_parameters: 5}\n"),
             ContainsSubstring("zero.reduce_bucket_size: has no effect") &&
                 ContainsSubstring("zero.stage3_max_live_parameters: has no effect") &&
                 ContainsSubstring("stage 3 alone shards parameters"));
  CHECK_THAT(
      said("zero: {stage: 3, stage3_max_live_parameters: 5}\n"),
      ContainsSubstring("zero.stage3_max_live_parameters: has no effect") && ContainsSubstring("gathered by blocks"));
  const std::string folder = test::fixture_path("checkpoint/base").string();
  CHECK_THAT(said("", false, "{train: [t.jsonl]}", "{path: " + folder + ", revision: main}"),
             ContainsSubstring("model.revision: has no effect"));
}

TEST_CASE("an empty list of metrics, a weight without bound and an unbuilt schedule are faults", "[recipe_config]") {
  CHECK_THAT(said("eval: {metrics: []}\n", true), ContainsSubstring("eval.metrics: is an empty list"));
  CHECK_THAT(said("", true, "{train: [{path: t.jsonl, weight: 1e300}]}"), ContainsSubstring("at most 1000000"));
  CHECK_THAT(said("training: {lr_scheduler_type: reduce_lr_on_plateau}\n", true),
             ContainsSubstring("`reduce_lr_on_plateau` is not built yet"));
}

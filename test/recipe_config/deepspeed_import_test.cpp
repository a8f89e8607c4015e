// DeepSpeed's JSON files read into a recipe.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "recipe_config/deepspeed_reading.h"
#include "support/fixtures.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using recipe_config::RecipeReading;
using test::check_file_fault;
using test::check_file_warning;
using test::file_faults;
using test::file_warnings;
using test::kRecipe;
using test::lines_of;
using test::read_with;
using test::resolved;

namespace {

nlohmann::json known_keys() {
  return nlohmann::json::parse(std::ifstream(test::fixture_path("recipe_config/deepspeed_keys.json")));
}

/// {"a": {"b": TEXT}} of "a.b".
std::string nested(std::string path, std::string text) {
  while (!path.empty()) {
    const size_t dot = path.rfind('.');
    text = concat("{\"", path.substr(dot == std::string::npos ? 0 : dot + 1), "\": ", text, "}");
    path.resize(dot == std::string::npos ? 0 : dot);
  }
  return text;
}

}  // namespace

TEST_CASE("A DeepSpeed file fills the recipe's keys", "[recipe_config]") {
  const auto config = resolved(
      R"({"train_batch_size": "auto", "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": "8",
          "gradient_clipping": 0.5, "bf16": {"enabled": true},
          "zero_optimization": {"stage": 2, "overlap_comm": false, "reduce_bucket_size": 2e8, "allgather_bucket_size": "3e8",
                                "offload_optimizer": {"device": "none", "pin_memory": false},
                                "prefetch_bucket_size": 5, "stage3_gather_16bit_weights_on_model_save": false},
          "optimizer": {"type": "AdamW", "params": {"lr": 3e-4, "betas": [0.8, 0.95], "eps": 1e-7, "weight_decay": 0.1}}})");
  const auto& training = config.training;
  CHECK(training.per_device_train_batch_size == 2);
  CHECK(training.gradient_accumulation_steps == 8);
  CHECK(training.max_grad_norm == 0.5);
  CHECK(config.model.dtype == spec::ComputeDtype::kBf16);
  CHECK(config.zero.stage == 2);
  CHECK_FALSE(config.zero.overlap_comm);
  CHECK(config.zero.reduce_bucket_size == 200'000'000);
  CHECK(config.zero.allgather_bucket_size == 300'000'000);
  CHECK_FALSE(config.zero.offload_optimizer.pin_memory);
  CHECK(config.zero.stage3_prefetch_bucket_size == 5);
  CHECK_FALSE(config.zero.stage3_gather_16bit_weights_on_model_save);
  CHECK(training.learning_rate == 3e-4);
  CHECK(training.adam_beta1 == 0.8);
  CHECK(training.adam_beta2 == 0.95);
  CHECK(training.adam_epsilon == 1e-7);
  CHECK(training.weight_decay == 0.1);
}

TEST_CASE("\"auto\" and missing keys of a DeepSpeed file come from the recipe", "[recipe_config]") {
  const std::string file =
      R"({"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
          "gradient_clipping": "auto", "bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto", "loss_scale": "auto"},
          "zero_optimization": {"stage": 1, "overlap_comm": "auto", "allgather_bucket_size": null},
          "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}},
          "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_min_lr": "auto", "warmup_max_lr": "auto",
                        "warmup_num_steps": "auto", "total_num_steps": "auto"}}})";
  const auto config =
      resolved(file,
               "training: {per_device_train_batch_size: 3, gradient_accumulation_steps: 5, max_grad_norm: 2, "
               "fp16: true, learning_rate: 1e-3, adam_beta1: 0.7, weight_decay: 0.2, warmup_steps: 7}\n");
  CHECK(config.training.per_device_train_batch_size == 3);
  CHECK(config.training.gradient_accumulation_steps == 5);
  CHECK(config.training.max_grad_norm == 2);
  CHECK(config.model.dtype == spec::ComputeDtype::kFp16);
  CHECK(config.training.learning_rate == 1e-3);
  CHECK(config.training.adam_beta1 == 0.7);
  CHECK(config.training.weight_decay == 0.2);
  CHECK(config.training.warmup_steps == 7);
  CHECK(config.training.lr_scheduler_type == optim::SchedulerType::kWarmupDecayLr);
  CHECK_FALSE(config.run.train_batch_size);
  CHECK(file_warnings("{}") == "");
  CHECK(resolved("{}").training.learning_rate == 1e-5);
}

TEST_CASE("Sizes that are \"auto\" follow from the hidden size", "[recipe_config]") {
  const char* file =
      R"({"zero_optimization": {"stage": 2, "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto",
                                "stage3_param_persistence_threshold": "auto"}})";
  auto config = resolved(file);
  recipe_config::resolve_auto_sizes(config, 576);
  CHECK(config.zero.reduce_bucket_size == 331776);
  CHECK(config.zero.stage3_prefetch_bucket_size == 50'000'000);
  config = resolved(file);
  config.zero.stage = 3;
  recipe_config::resolve_auto_sizes(config, 576);
  CHECK(config.zero.stage3_prefetch_bucket_size == 298598);  // int(0.9 * 576 * 576)
  CHECK(config.zero.stage3_param_persistence_threshold == 5760);
  // a run's resolved.yaml has no warning that the run had not
  recipe_config::forget_auto_sizes(config);
  const auto again = recipe_config::read_recipe_text(recipe_config::to_yaml(config), "resolved.yaml");
  CHECK(lines_of(again.faults) + lines_of(again.warnings) == "");
  // what the recipe writes, "auto" takes
  config = resolved(file, "zero: {reduce_bucket_size: 1000}\n");
  recipe_config::resolve_auto_sizes(config, 576);
  CHECK(config.zero.reduce_bucket_size == 1000);
}

TEST_CASE("A value of a DeepSpeed file that contradicts a written key names both places", "[recipe_config]") {
  CHECK(
      file_faults("{\n  \"optimizer\": {\"type\": \"AdamW\",\n    \"params\": {\"lr\": 1e-4}}}",
                  "training:\n  learning_rate: 2e-4\n") ==
      "ds.json:3:16: optimizer.params.lr: `1e-4` contradicts `training.learning_rate` at r.yaml:7:3, which is `2e-4`; "
      "remove one of them\n");
  check_file_fault(
      "{\"scheduler\": {\"type\": \"WarmupLR\"}}",
      "ds.json:1:16: scheduler.type: `WarmupLR` contradicts `training.lr_scheduler_type` at r.yaml:6:12, which is "
      "`cosine`",
      "training: {lr_scheduler_type: cosine}\n");
  check_file_fault("{\"zero_optimization\": {\"stage\": 2}}",
                   "zero_optimization.stage: `2` contradicts `zero.stage` at r.yaml:6:8", "zero: {stage: 1}\n");
  check_file_fault("{\"gradient_clipping\": 1.0}", "contradicts `training.max_grad_norm`",
                   "training: {max_grad_norm: 0.3}\n");
  check_file_fault("{\"optimizer\": {\"type\": \"Adam\", \"params\": {\"betas\": [0.9, 0.95]}}}",
                   "optimizer.params.betas: `0.95` contradicts `training.adam_beta2`",
                   "training: {adam_beta2: 0.999}\n");
  CHECK_THAT(
      lines_of(read_with("{\"bf16\": {\"enabled\": true}}", "", {"model.dtype=fp32"}).faults),
      Catch::Matchers::ContainsSubstring("bf16.enabled: `bf16` contradicts `model.dtype` at command line: override 1"));
  check_file_fault(
      "{\"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 1e-4}}, \"scheduler\": {\"type\": \"WarmupLR\", "
      "\"params\": "
      "{\"warmup_max_lr\": 2e-4}}}",
      "scheduler.params.warmup_max_lr: `2e-4` contradicts `optimizer.params.lr` at ds.json:1:44");
}

TEST_CASE("Equal values and defaults never contradict a DeepSpeed file", "[recipe_config]") {
  const char* file =
      R"({"zero_optimization": {"stage": 2}, "bf16": {"enabled": true}, "gradient_clipping": 1,
          "optimizer": {"type": "AdamW", "params": {"lr": 0.0002}}, "fp16": {"enabled": false}})";
  CHECK(file_faults(file) == "");
  CHECK(
      file_faults(
          file,
          "training: {learning_rate: 2e-4, max_grad_norm: 1.0, bf16: true, optim: adamw_torch}\nzero: {stage: 2}\n") ==
      "");
}

TEST_CASE("ZeRO's block is strict, and its old forms are understood", "[recipe_config]") {
  check_file_fault(R"({"zero_optimization": {"stge": 2}})",
                   "zero_optimization.stge: is unknown here, and DeepSpeed refuses it: did you mean `stage`?");
  check_file_fault(R"({"zero_optimization": {"gradient_clipping": 1}})", "belongs to the top of the file");
  check_file_fault(R"({"zero_optimization": {"offload_optimizer": {"device": "nvme"}}})",
                   "`nvme` is not supported: nothing is swapped to a disk");
  check_file_fault(R"({"zero_optimization": {"offload_optimizer": {"devce": "cpu"}}})", "did you mean `device`?");
  check_file_fault(R"({"zero_optimization": {"offload_optimizer": "cpu"}})", "is a block of keys, not \"cpu\"");
  check_file_fault(R"({"zero_optimization": {"cpu_offload": true, "offload_optimizer": {}}})",
                   "which DeepSpeed refuses");
  check_file_fault("{\"zero_optimization\": {\n\"stage\": 4}}",
                   "ds.json:2:10: zero.stage: must be between 0 and 3, not 4");
  check_file_fault(R"({"zero_optimization": {"stage3_max_reuse_distance": 5, "max_reuse_distance": 6}})",
                   "contradicts `zero_optimization.stage3_max_reuse_distance` at ds.json:1:24");
  CHECK(resolved(R"({"zero_optimization": true})").zero.stage == 1);
  check_file_warning(R"({"zero_optimization": true})", "is deprecated as true or false");
  CHECK_THAT(file_warnings(R"({"zero_optimization": {"cpu_offload": true}})"),
             Catch::Matchers::ContainsSubstring("is deprecated: write `offload_optimizer`"));
  check_file_warning(R"({"zero_optimization": {"stage": 2, "sub_group_size": 1e9}})",
                     "zero_optimization.sub_group_size: has no effect");
}

TEST_CASE("What DeepSpeed refuses in a block without effect is refused here too", "[recipe_config]") {
  check_file_fault(R"({"tensorboard": {"enabled": true, "job_nme": "a"}})",
                   "tensorboard.job_nme: is unknown here, and DeepSpeed refuses it: did you mean `job_name`?");
  check_file_fault(R"({"compile": {"foo": true}})", "compile.foo: is unknown here, and DeepSpeed refuses it");
  check_file_fault(R"({"zero_optimization": {"leaf_module": {"foo": []}}})",
                   "zero_optimization.leaf_module.foo: is unknown here");
  check_file_warning(R"({"comms_logger": {"enabled": true, "prof_ops": ["all_reduce"]}})",
                     "comms_logger: has no effect");
  check_file_fault(R"({"communication_data_type": "int8"})",
                   "communication_data_type: needs fp16, bf16 or fp32, not \"int8\"");
  check_file_warning(R"({"communication_data_type": "FP32"})", "gradients are summed in fp32");
  check_file_fault(R"({"checkpoint": {"tag_validation": "sometimes"}})", "needs warn, ignore or fail");
  check_file_warning(R"({"checkpoint": {"tag_validation": "Warn"}})", "checkpoint: has no effect");
  check_file_fault(R"({"zero_optimization": {"compute_grad_norm": false}})",
                   "refused by DeepSpeed as false at stage 0");
  check_file_warning(R"({"zero_optimization": {"compute_grad_norm": false, "stage": 2}})",
                     "the norm is always computed");
  check_file_fault(R"({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "none", "ratio": 0.5}}})",
                   "refused by DeepSpeed below 1 at stage 2");
}

TEST_CASE("Stray keys of a DeepSpeed file are named with the place where they belong", "[recipe_config]") {
  check_file_warning(
      R"({"stage": 2})",
      "ds.json:1:2: stage: has no effect: DeepSpeed ignores a key that it does not know here; belongs into "
      "`zero_optimization`");
  check_file_warning(R"({"gradient_clippin": 1})", "did you mean `gradient_clipping`?");
  check_file_warning(R"({"learning_rate": 1, "micro_batch_size": 3})",
                     "in the recipe it is `training.per_device_train_batch_size`");
  check_file_warning(R"({"learning_rate": 1})", "in the recipe it is `training.learning_rate`");
  check_file_warning(R"({"aio": {"block_size": 1}, "steps_per_print": 10})", "steps_per_print: has no effect");
}

TEST_CASE("The rows of an update are micro-batch x accumulation x ranks", "[recipe_config]") {
  const auto on_ranks = [](const std::string& file, int64_t num_ranks, const std::string& addition = "") {
    auto config = resolved(file, addition);
    recipe_config::resolve_train_batch(config, num_ranks);
    return std::pair(config.training.per_device_train_batch_size, config.training.gradient_accumulation_steps);
  };
  using Pair = std::pair<int64_t, int64_t>;
  CHECK(on_ranks(R"({"train_batch_size": 32})", 4) == Pair(8, 1));
  CHECK(on_ranks(R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": 2})", 4) == Pair(2, 4));
  CHECK(on_ranks(R"({"train_batch_size": 32, "gradient_accumulation_steps": 4})", 2) == Pair(4, 4));
  CHECK(on_ranks(R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": "auto"})", 2,
                 "training: {per_device_train_batch_size: 1}\n") == Pair(1, 16));
  CHECK(on_ranks(R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 4})",
                 2) == Pair(4, 4));

  const std::string all =
      R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 4})";
  auto config = resolved(all);
  test::require_error(ErrorKind::kUsage,
                      {"ds.json:1:2: train_batch_size: 32 rows",
                       "per_device_train_batch_size 4 x gradient_accumulation_steps 4 x 3 ranks = 48"},
                      [&] { recipe_config::resolve_train_batch(config, 3); });
  config = resolved(R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": 16})");
  test::require_error(ErrorKind::kUsage,
                      {"32 rows of an update are not per_device_train_batch_size 16 x 3 ranks x a whole number"},
                      [&] { recipe_config::resolve_train_batch(config, 3); });
  config = resolved(R"({"train_batch_size": 2})");
  test::require_error(ErrorKind::kUsage, {"2 rows of an update are not 4 ranks"},
                      [&] { recipe_config::resolve_train_batch(config, 4); });
  check_file_fault(R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": 3})",
                   "train_batch_size: 32 rows of an update are no multiple of per_device_train_batch_size 3");
  check_file_fault(R"({"train_batch_size": 0})", "needs a whole number between 1 and");
}

TEST_CASE("Every key that DeepSpeed knows is read or named", "[recipe_config]") {
  const auto golden = known_keys();
  size_t num_keys = 0;
  for (const auto& [block, names] : golden["known"].items()) {
    for (const std::string name : names) {
      const std::string file = nested(block, concat("{\"", name, "\": null}"));
      INFO(file);
      const RecipeReading reading = read_with(file);
      CHECK(lines_of(reading.faults).find("unknown") == std::string::npos);
      CHECK(lines_of(reading.warnings).find("does not know") == std::string::npos);
      ++num_keys;
    }
  }
  CHECK(num_keys > 170);
  for (const auto& [block, names] : golden["removed"].items()) {
    for (const std::string name : names)
      check_file_fault(nested(block, concat("{\"", name, "\": {}}")), "was removed from DeepSpeed");
  }
  for (const auto& [type, names] : golden["schedulers"].items()) {
    for (const std::string name : names) {
      const std::string file = concat(R"({"scheduler": {"type": ")", type, R"(", "params": {")", name, "\": null}}}");
      INFO(file);
      CHECK(file_faults(file).find("does not take it") == std::string::npos);
    }
  }
}

TEST_CASE("The files that ship read as DeepSpeed reads them", "[recipe_config]") {
  const test::WorkingDirectory at_root(DSFT_SOURCE_DIR);
  const auto read_shipped = [](const std::string& name) {
    return recipe_config::read_recipe("recipes/deepspeed/" + name + ".yaml");
  };
  for (const char* name : {"zero2_offload", "zero3_offload", "ds_config"}) {
    INFO(name);
    const RecipeReading reading = read_shipped(name);
    CHECK(lines_of(reading.faults) == "");
    CHECK(lines_of(reading.warnings) == "");
    CHECK(reading.config.model.dtype == spec::ComputeDtype::kBf16);
    CHECK(reading.config.zero.overlap_comm);
  }
  RecipeReading reading = read_shipped("ds_config");
  REQUIRE(reading.is_ok());
  CHECK(reading.config.zero.stage == 2);
  CHECK(reading.config.training.gradient_accumulation_steps == 4);
  CHECK(reading.config.training.per_device_train_batch_size == 2);
  reading = read_shipped("zero2_offload");
  CHECK(reading.config.zero.stage == 2);
  CHECK(reading.config.training.gradient_accumulation_steps == 4);  // the recipe's, for "auto"
  CHECK_FALSE(reading.config.run.train_batch_size);
  CHECK(reading.written.at("zero.offload_optimizer.device").file == "recipes/deepspeed/zero2_offload.json");
  CHECK(reading.config.zero.offload_optimizer.device == zero::OffloadDevice::kCpu);
  reading = read_shipped("zero3_offload");
  CHECK(reading.written.at("zero.offload_param.device").line == 12);
  CHECK(reading.config.zero.offload_param.device == zero::OffloadDevice::kCpu);
  reading = recipe_config::read_recipe("recipes/grpo/course_gsm8k.yaml");  // names zero2_fp16.json
  REQUIRE(reading.is_ok());
  CHECK(reading.written.at("zero.stage").file == "recipes/deepspeed/zero2_fp16.json");
  CHECK(reading.config.zero.stage == 2);
  CHECK(reading.config.model.dtype == spec::ComputeDtype::kFp16);  // the recipe's, for "auto", as these
  CHECK(reading.config.training.per_device_train_batch_size == 4);
  CHECK(reading.config.training.gradient_accumulation_steps == 8);
}

TEST_CASE("A recipe with a DeepSpeed file runs again from its resolved.yaml without it", "[recipe_config]") {
  const auto config = resolved(
      R"({"fp16": {"enabled": true, "initial_scale_power": 8}, "zero_optimization": {"stage": 2}, "gradient_clipping": 0.7,
          "scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 0, "cycle_max_lr": 1e-3, "cycle_momentum": false}}})");
  const std::string text = recipe_config::to_yaml(config);
  RecipeReading again = recipe_config::read_recipe_text(text, "resolved.yaml");
  CHECK(lines_of(again.faults) == "");
  CHECK(lines_of(again.warnings) == "");
  recipe_config::resolve_defaults(again.config, true);
  CHECK(recipe_config::to_yaml(again.config) == text);
}

TEST_CASE("A DeepSpeed configuration is named in one place, or stands there itself", "[recipe_config]") {
  const auto inline_map =
      recipe_config::read_recipe_text(concat(kRecipe, "training: {deepspeed: {gradient_clipping: 0.5}}\n"), "r.yaml");
  CHECK(lines_of(inline_map.faults) == "");
  CHECK(inline_map.config.training.max_grad_norm == 0.5);
  const auto faults = [](const std::string& addition) {
    return lines_of(recipe_config::read_recipe_text(kRecipe + addition, "r.yaml").faults);
  };
  CHECK(faults("deepspeed: nowhere.json\n") ==
        "r.yaml:5:1: deepspeed: nowhere.json cannot be read: No such file or directory\n");
  CHECK_THAT(faults("deepspeed: {}\ntraining: {deepspeed: b.json}\n"),
             Catch::Matchers::ContainsSubstring("training.deepspeed: contradicts `deepspeed` at r.yaml:5:1"));
  CHECK_THAT(faults("deepspeed: [1]\n"), Catch::Matchers::ContainsSubstring("needs a DeepSpeed JSON file, not a list"));
  CHECK(faults("deepspeed: null\n") == "");
  CHECK(file_faults("[1]") == "ds.json:1:1: is a map of keys, not a list\n");
  CHECK(file_faults("{") == "ds.json:1:2: not valid JSON: a key in double quotes is needed here\n");
}

// DeepSpeed's JSON files read into a recipe.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "recipe_config/recipe_config.h"
#include "support/fixtures.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using recipe_config::RecipeReading;

namespace {

constexpr const char* kRecipe = "recipe: sft\noutput_dir: r\nmodel: {path: a}\ndata: {train: t.json}\n";

/// A recipe beside a DeepSpeed file "ds.json".
RecipeReading read_with(const std::string& file, const std::string& addition = "",
                        const std::vector<std::string>& overrides = {}) {
  const test::TempDir folder;
  const std::string path = folder.write("ds.json", file).string();
  RecipeReading reading =
      recipe_config::read_recipe_text(concat(kRecipe, "deepspeed: ", path, "\n", addition), "r.yaml", overrides);
  // the folder's name is another each time
  for (auto* list : {&reading.faults, &reading.warnings}) {
    for (config::Fault& fault : *list) {
      if (fault.position.file == path) fault.position.file = "ds.json";
      for (size_t at = 0; (at = fault.message.find(path)) != std::string::npos;)
        fault.message.replace(at, path.size(), "ds.json");
    }
  }
  return reading;
}

std::string lines_of(const std::vector<config::Fault>& faults) {
  std::string all;
  for (const config::Fault& fault : faults) all += to_string(fault) + "\n";
  return all;
}

std::string file_faults(const std::string& file, const std::string& addition = "") {
  return lines_of(read_with(file, addition).faults);
}

std::string file_warnings(const std::string& file, const std::string& addition = "") {
  return lines_of(read_with(file, addition).warnings);
}

/// A recipe without faults, resolved.
recipe_config::RecipeConfig resolved(const std::string& file, const std::string& addition = "") {
  RecipeReading reading = read_with(file, addition);
  INFO(lines_of(reading.faults));
  REQUIRE(reading.is_ok());
  recipe_config::resolve_defaults(reading.config, true);
  return reading.config;
}

void check_file_fault(const std::string& file, const std::string& expected, const std::string& addition = "") {
  CHECK_THAT(file_faults(file, addition), Catch::Matchers::ContainsSubstring(expected));
}

void check_file_warning(const std::string& file, const std::string& expected, const std::string& addition = "") {
  const RecipeReading reading = read_with(file, addition);
  CHECK(lines_of(reading.faults) == "");
  CHECK_THAT(lines_of(reading.warnings), Catch::Matchers::ContainsSubstring(expected));
}

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
      "scheduler.params.warmup_max_lr: `2e-4` contradicts `training.learning_rate` at ds.json:1:44");
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

TEST_CASE("Precision blocks choose the type, and both or a contradiction are faults", "[recipe_config]") {
  CHECK(resolved(R"({"fp16": {"enabled": "true"}})").model.dtype == spec::ComputeDtype::kFp16);
  CHECK(resolved(R"({"bf16": {"enabled": false}})").model.dtype == spec::ComputeDtype::kFp32);
  CHECK(resolved(R"({"bf16": {"enabled": "auto"}})").model.dtype == spec::ComputeDtype::kBf16);
  CHECK(resolved(R"({"fp16": {"enabled": false}})").model.dtype == spec::ComputeDtype::kFp32);
  CHECK(resolved(R"({"fp16": {"enabled": false}, "bf16": {"enabled": true}})").model.dtype ==
        spec::ComputeDtype::kBf16);
  CHECK(resolved(R"({"fp16": {"enabled": false}, "bf16": {"enabled": false}})").model.dtype ==
        spec::ComputeDtype::kFp32);
  check_file_warning(R"({"bfloat16": {"enabled": true}})", "bfloat16: is the old name of `bf16`");
  check_file_fault(R"({"bf16": {"enabled": true}, "fp16": {"enabled": true}})",
                   "fp16.enabled: contradicts `bf16.enabled` at ds.json:1:11");
  check_file_fault(R"({"bf16": {"enabled": false}})",
                   "bf16.enabled: `false` contradicts `model.dtype: bf16`, which the recipe writes at r.yaml:6:12",
                   "training: {bf16: true}\n");
  check_file_fault(R"({"bf16": {"enabled": true}})", "training.fp16: contradicts `model.dtype` at ",
                   "training: {fp16: true}\n");
  check_file_fault(R"({"bf16": {"enabled": true}})",
                   "bf16.enabled: `true` contradicts `training.bf16: false` at r.yaml:6:12",
                   "training: {bf16: false}\n");
  check_file_fault(R"({"bf16": true})", "bf16: is a block of keys, not `true`");
  check_file_fault(R"({"fp16": {"enabled": 3}})", "fp16.enabled: needs true, false or \"auto\", not `3`");
  check_file_fault(R"({"bf16": {"enabled": true, "bf16_master_weights_and_grads": true}})",
                   "is not supported: master weights are kept in fp32");
}

TEST_CASE("The fp16 block sets the loss scaler", "[recipe_config]") {
  const auto scaler =
      resolved(
          R"({"fp16": {"enabled": true, "loss_scale": 0, "initial_scale_power": 12, "loss_scale_window": 100,
                                       "hysteresis": 4, "consecutive_hysteresis": true, "min_loss_scale": 2}})")
          .training.loss_scaler;
  CHECK(scaler == optim::LossScalerConfig{.loss_scale = 0,
                                          .initial_scale_power = 12,
                                          .loss_scale_window = 100,
                                          .hysteresis = 4,
                                          .consecutive_hysteresis = true,
                                          .min_loss_scale = 2});
  CHECK(resolved(R"({"fp16": {"enabled": true}})").training.loss_scaler == optim::LossScalerConfig());
  CHECK(resolved(R"({"fp16": {"enabled": false, "hysteresis": 4}})").training.loss_scaler == optim::LossScalerConfig());
  check_file_fault(R"({"fp16": {"enabled": true, "loss_scale": -1}})",
                   "ds.json:1:42: training.loss_scaler.loss_scale: must be at least 0, not -1");
  check_file_fault(R"({"fp16": {"enabled": true, "loss_scale_window": 0}})", "must be at least 1");
  check_file_warning(R"({"fp16": {"enabled": "auto", "hysteresis": 4}})",
                     "training.loss_scaler: has no effect: the loss is scaled in fp16 alone");
}

TEST_CASE("A scheduler block becomes DeepSpeed's schedule", "[recipe_config]") {
  const auto decay =
      resolved(R"({"scheduler": {"type": "WarmupDecayLR", "params": {"warmup_min_lr": 1e-6, "warmup_max_lr": 3e-5,
                                  "warmup_num_steps": 10, "total_num_steps": 100, "warmup_type": "linear", "last_batch_iteration": -1}}})")
          .training;
  CHECK(decay.lr_scheduler_type == optim::SchedulerType::kWarmupDecayLr);
  CHECK(decay.learning_rate == 3e-5);
  CHECK(decay.warmup_steps == 10);
  CHECK_FALSE(decay.warmup_ratio);
  CHECK(decay.lr_scheduler_kwargs.total_num_steps == 100);
  CHECK(decay.lr_scheduler_kwargs.warmup_min_lr == 1e-6);
  CHECK(decay.lr_scheduler_kwargs.warmup_type == optim::RampType::kLinear);
  const auto cycle =
      resolved(R"({"scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": [1e-5, 1e-5], "cycle_max_lr": 1e-3,
                                  "cycle_first_step_size": 10, "cycle_momentum": false, "decay_lr_rate": 0.1, "decay_step_size": 2}}})")
          .training;
  CHECK(cycle.lr_scheduler_type == optim::SchedulerType::kOneCycle);
  CHECK(cycle.lr_scheduler_kwargs.cycle_min_lr == 1e-5);
  CHECK(cycle.lr_scheduler_kwargs.decay_step_size == 2);
  CHECK(cycle.warmup_ratio == 0.0);

  check_file_fault(R"({"scheduler": {"type": "LRRangeTest", "params": {}}})",
                   "scheduler.type: `LRRangeTest`, a search for a rate, is not supported");
  check_file_fault(R"({"scheduler": {"type": "CosineAnnealingLR"}})", "`CosineAnnealingLR` is not supported");
  check_file_fault(R"({"scheduler": {"type": "WarmupLR", "params": {"total_num_steps": 5}}})",
                   "scheduler.params.total_num_steps: WarmupLR does not take it, and DeepSpeed refuses it");
  check_file_fault(R"({"scheduler": {"type": "WarmupLR", "params": {"warmup_num_stps": 5}}})",
                   "did you mean `warmup_num_steps`?");
  check_file_fault(R"({"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 0}}})",
                   "needs a whole number of at least 1");
  check_file_fault(R"({"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": "auto"}}})",
                   "needs a warm-up of at least 1 update", "training: {warmup_steps: 0}\n");
  check_file_fault(R"({"scheduler": {"type": "WarmupCosineLR", "params": {"cos_min_ratio": "auto"}}})",
                   "has no \"auto\"");
  check_file_fault(R"({"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 9}}})",
                   "scheduler.params.warmup_num_steps: `9` contradicts `training.warmup_ratio` at r.yaml:6:12",
                   "training: {warmup_ratio: 0.1}\n");
  check_file_fault(
      R"({"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 9}}})",
      "r.yaml:6:12: training.max_steps: contradicts `training.lr_scheduler_kwargs.total_num_steps` at ds.json:1:52",
      "training: {max_steps: 20, learning_rate: 1, warmup_steps: 2}\n");
  const auto moving = resolved(R"({"scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 0, "cycle_max_lr": 1,
                                  "cycle_min_mom": [0.7, 0.7], "cycle_max_mom": 0.95, "decay_mom_rate": 0.001}}})")
                          .training.lr_scheduler_kwargs;
  CHECK_FALSE(moving.cycle_momentum);  // DeepSpeed's default, true
  CHECK(moving.cycle_min_mom == 0.7);
  CHECK(moving.cycle_max_mom == 0.95);
  CHECK(moving.decay_mom_rate == 0.001);
  check_file_warning(
      R"({"scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 0, "cycle_max_lr": 1, "cycle_momentum": false,
          "cycle_min_mom": 0.7}}})",
      "cycle_min_mom: has no effect: cycle_momentum is false");
  check_file_warning(R"({"optimizer": {"type": "AdamW", "params": {"betas": [0.8, 0.999]}},
                         "scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 0, "cycle_max_lr": 1}}})",
                     "the schedule OneCycle moves AdamW's betas");
  check_file_fault(R"({"scheduler": {"type": "OneCycle", "params": {"cycle_momentum": false}}})",
                   "cycle_max_lr: is required");
  check_file_warning(R"({"scheduler": {"params": {"warmup_num_steps": 5}}})",
                     "scheduler: has no effect: DeepSpeed ignores the block without a `type`");
  check_file_warning(R"({"scheduler": {"type": "WarmupLR", "warmup_num_steps": 5, "params": {}}})",
                     "scheduler.warmup_num_steps: has no effect");
  check_file_warning(R"({"scheduler": {"type": "WarmupDecayLR", "params": {}}})", "not DeepSpeed's 1000 updates");
  check_file_warning(R"({"scheduler": {"type": "WarmupLR", "params": {"warmup_type": "cubic"}}})",
                     "`cubic` is no warm-up that DeepSpeed knows");
}

TEST_CASE("Other optimizers and other arithmetic are refused", "[recipe_config]") {
  check_file_fault(R"({"optimizer": {"type": "Lion"}})",
                   "optimizer.type: `Lion` is not supported: the optimizer is AdamW");
  check_file_fault(R"({"optimizer": {"type": "AdamW", "params": {"max_grad_norm": 1}}})",
                   "write `gradient_clipping` at the top");
  check_file_fault(R"({"optimizer": {"type": "AdamW", "params": {"momentum": 1}}})",
                   "is unknown here, and DeepSpeed refuses it");
  check_file_fault(R"({"optimizer": {"type": "Adam", "params": {"adam_w_mode": false}}})", "whose decay is decoupled");
  CHECK(file_faults(R"({"optimizer": {"type": "AdamW", "params": {"adam_w_mode": false, "torch_adam": true}}})") == "");
  check_file_fault(R"({"optimizer": {"type": "AdamW", "params": {"amsgrad": true}}})", "AMSGrad is not built");
  check_file_fault(R"({"optimizer": {"type": "AdamW", "params": {"betas": 0.9}}})", "needs a list of two numbers");
  check_file_warning(R"({"optimizer": {"lr": 1}})",
                     "optimizer.lr: has no effect: DeepSpeed ignores a key that it does not know here; belongs into "
                     "`optimizer.params`");
  check_file_fault(R"({"gradient_allreduce_op": "sum"})", "`sum` is not supported");
  check_file_fault(R"({"sequence_parallel_size": 2})", "sequences are not cut over ranks");
  check_file_fault(R"({"tensor_parallel": {"autotp_size": 2}})", "tensor parallelism is not built");
  check_file_fault(R"({"data_efficiency": {"enabled": true}})", "is not supported");
  CHECK(file_faults(R"({"data_efficiency": {"enabled": false}, "tensor_parallel": {"autotp_size": 1}})") == "");
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
                   "contradicts `zero.stage3_max_reuse_distance` at ds.json:1:24");
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

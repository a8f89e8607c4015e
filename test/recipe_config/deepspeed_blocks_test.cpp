// What DeepSpeed's precision, scheduler and optimizer blocks become.
#include <cmath>

#include "catch_amalgamated.hpp"
#include "recipe_config/deepspeed_reading.h"

using namespace dsft;
using test::check_file_fault;
using test::check_file_warning;
using test::file_faults;
using test::resolved;

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

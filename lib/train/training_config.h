#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/words.h"
#include "optim/loss_scaler_config.h"
#include "optim/schedule_config.h"

namespace dsft::config {
class Fields;
class Section;
}  // namespace dsft::config

namespace dsft::train {

/// What the backward pass computes again instead of keeping it: nothing, whole blocks, or gate and up of each MLP,
/// which are half of what a layer keeps or more.
enum class GradientCheckpointing { kFalse, kTrue, kSelective };

constexpr auto words_of(GradientCheckpointing) {
  return std::to_array<config::Word<GradientCheckpointing>>({{"false", GradientCheckpointing::kFalse},
                                                             {"true", GradientCheckpointing::kTrue},
                                                             {"selective", GradientCheckpointing::kSelective}});
}

/// Whether a training step on a GPU is recorded and launched as one.
enum class CudaGraphs { kAuto, kFalse };

constexpr auto words_of(CudaGraphs) {
  return std::to_array<config::Word<CudaGraphs>>({{"auto", CudaGraphs::kAuto}, {"false", CudaGraphs::kFalse}});
}

/// Both are the same AdamW here.
enum class Optim { kAdamWTorchFused, kAdamWTorch };

constexpr auto words_of(Optim) {
  return std::to_array<config::Word<Optim>>(
      {{"adamw_torch_fused", Optim::kAdamWTorchFused}, {"adamw_torch", Optim::kAdamWTorch}});
}

enum class EvalStrategy { kNo, kSteps, kEpoch };

constexpr auto words_of(EvalStrategy) {
  return std::to_array<config::Word<EvalStrategy>>(
      {{"no", EvalStrategy::kNo}, {"steps", EvalStrategy::kSteps}, {"epoch", EvalStrategy::kEpoch}});
}

enum class SaveStrategy { kNo, kSteps, kEpoch, kBest };

constexpr auto words_of(SaveStrategy) {
  return std::to_array<config::Word<SaveStrategy>>({{"no", SaveStrategy::kNo},
                                                    {"steps", SaveStrategy::kSteps},
                                                    {"epoch", SaveStrategy::kEpoch},
                                                    {"best", SaveStrategy::kBest}});
}

/// Where the curves go besides metrics.jsonl.
enum class ReportTo { kNone, kTensorboard };

constexpr auto words_of(ReportTo) {
  return std::to_array<config::Word<ReportTo>>({{"none", ReportTo::kNone},
                                                {"tensorboard", ReportTo::kTensorboard},
                                                {"mlflow", {}, "the MLflow client"},
                                                {"wandb", {}, "the Weights & Biases client"}});
}

/// What a run continues from: nothing (null), the newest valid checkpoint of output_dir (true), or one directory.
struct ResumeFrom {
  enum class Kind { kNothing, kNewest, kDirectory };
  Kind kind = Kind::kNothing;
  std::string directory;
  bool operator==(const ResumeFrom&) const = default;
};

/// The recipe's section `training` (transformers.TrainingArguments' names).
struct TrainingConfig {
  double num_train_epochs = 1.0;
  int64_t max_steps = -1;                   ///< > 0: overrides num_train_epochs
  int64_t per_device_train_batch_size = 1;  ///< rows, or bins when packing
  int64_t per_device_eval_batch_size = 1;   ///< the same in evaluation
  int64_t gradient_accumulation_steps = 1;
  GradientCheckpointing gradient_checkpointing = GradientCheckpointing::kFalse;
  bool auto_find_batch_size = false;  ///< smaller micro-batches where memory is short; updates stay the same
  CudaGraphs cuda_graphs = CudaGraphs::kAuto;
  Optim optim = Optim::kAdamWTorchFused;
  std::optional<double> learning_rate;  ///< resolved: 2e-4 with LoRA, 1e-5 full
  double weight_decay = 0.0;            ///< never on biases and norm weights
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;  ///< 0: no clipping
  optim::SchedulerType lr_scheduler_type = optim::SchedulerType::kCosine;
  optim::SchedulerKwargs lr_scheduler_kwargs;
  std::optional<int64_t> warmup_steps;  ///< resolved: exactly one of warmup_steps and warmup_ratio is set
  std::optional<double> warmup_ratio;   ///< resolved: 0.03 where warmup_steps is not written; ceil(ratio * steps)
  optim::LossScalerConfig loss_scaler;  ///< of fp16
  int64_t logging_steps = 1;
  EvalStrategy eval_strategy = EvalStrategy::kNo;
  std::optional<int64_t> eval_steps;  ///< resolved: eval_steps_of
  int64_t default_eval_steps = 500;   ///< no key: where eval_steps is not written; logging_steps where that is
  bool eval_on_start = false;
  SaveStrategy save_strategy = SaveStrategy::kSteps;
  int64_t save_steps = 500;
  std::optional<int64_t> save_total_limit = 2;  ///< none: keep all
  bool save_only_model = false;
  bool load_best_model_at_end = false;
  std::optional<std::string> metric_for_best_model;  ///< resolved: loss
  std::optional<bool> greater_is_better;             ///< resolved: the metric's name does not end in "loss"
  std::optional<int64_t> early_stopping_patience;    ///< evaluations without a better metric; none: never stop early
  ResumeFrom resume_from_checkpoint;
  std::vector<ReportTo> report_to = {ReportTo::kTensorboard};  ///< never holds kNone; empty: metrics.jsonl alone
  bool full_determinism = false;

  // As in TrainingArguments; resolve_defaults moves them to model.dtype and the top of the recipe and clears them here.
  std::optional<bool> bf16;
  std::optional<bool> fp16;
  std::optional<std::string> output_dir;
  std::optional<int64_t> seed;
  std::optional<std::string> deepspeed;  ///< taken out when the recipe is read, see recipe_config/imports.h
};

/// Updates between two evaluations by steps: eval_steps, else, as in transformers, a written logging_steps, else 500.
int64_t eval_steps_of(const TrainingConfig& config);

/// Whether anything asks for the best evaluation: the best checkpoint, its saving, or early stopping.
bool tracks_best(const TrainingConfig& config);

void describe_fields(config::Fields& fields, TrainingConfig& config);
/// Contradictions inside the section, and keys that have no effect beside the others.
void validate(const TrainingConfig& config, config::Section& section);

}  // namespace dsft::train

#include "train/training_config.h"

#include <algorithm>

#include "base/error.h"
#include "config/fields.h"
#include "config/section.h"
#include "train/other_arguments_config.h"

namespace dsft::config {

template <>
struct Value<train::ResumeFrom> {
  using Kind = train::ResumeFrom::Kind;

  static std::string kind() { return "null, true or a directory"; }

  static void read(const Node& node, train::ResumeFrom& value, Problems& problems) {
    if (const auto boolean = to_bool(node)) {
      value = {*boolean ? Kind::kNewest : Kind::kNothing, ""};
    } else if (node.is_null()) {
      value = {};
    } else if (node.is_scalar() && !node.text.empty()) {
      value = {Kind::kDirectory, node.text};
    } else {
      add_mismatch(node, kind(), problems);
    }
  }

  static Node write(const train::ResumeFrom& value) {
    if (value.kind == Kind::kNothing) return make_null();
    return value.kind == Kind::kNewest ? make_plain("true") : make_string(value.directory);
  }
};

}  // namespace dsft::config

namespace dsft::train {
namespace {

using config::above;
using config::at_least;
using config::between;

constexpr double kMostEpochs = 1e6;
constexpr double kMostRows = 1e6;  // of a batch

// What docs/recipe.md says of a default that the grpo recipe replaces (recipe_config/recipe_defaults.h).
std::string or_in_grpo(const char* other, const char* in_grpo) {
  return concat("`", other, "`, in a grpo recipe `", in_grpo, "`");
}

void describe_batches(config::Fields& fields, TrainingConfig& config) {
  fields
      .add("num_train_epochs", config.num_train_epochs, "Passes over the training data",
           config::above_to(0, kMostEpochs))
      .default_note = or_in_grpo("1.0", "3.0");
  fields.add("max_steps", config.max_steps, "Updates; greater than 0 it replaces num_train_epochs",
             between(-1, optim::kMostUpdates));
  fields
      .add("per_device_train_batch_size", config.per_device_train_batch_size,
           "Rows of a micro-batch per rank; bins when packing", between(1, kMostRows))
      .default_note = or_in_grpo("1", "8");
  fields
      .add("per_device_eval_batch_size", config.per_device_eval_batch_size,
           "The same in evaluation; above 32 also the sequences generated together", between(1, kMostRows))
      .default_note = or_in_grpo("1", "8");
  fields.add("gradient_accumulation_steps", config.gradient_accumulation_steps, "Micro-batches per update and rank",
             between(1, kMostRows));
  fields
      .add("gradient_checkpointing", config.gradient_checkpointing,
           "Recompute in the backward pass to save memory: true: each block; selective: gate and up of each MLP alone, "
           "between the two in memory and time")
      .default_note = or_in_grpo("false", "true");
  fields.add("auto_find_batch_size", config.auto_find_batch_size,
             "Before the first update, halve the micro-batch until the largest one fits into memory; an update keeps "
             "its rows");
  fields.add("cuda_graphs", config.cuda_graphs,
             "auto: on a GPU, record the training step for small micro-batches and launch it as one");
  fields.add("bf16", config.bf16, "Sets model.dtype to bf16; written as false: to fp32");
  fields.add("fp16", config.fp16, "Sets model.dtype to fp16; written as false: to fp32");
  fields.add("output_dir", config.output_dir, "May stand here instead of at the top");
  fields.add("seed", config.seed, "May stand here instead of at the top", at_least(0));
  fields.add("deepspeed", config.deepspeed, "May stand here instead of at the top");
}

/// transformers 5 takes a share of the run as warmup_steps too; here it has its own key.
void describe_warmup_steps(config::Fields& fields, TrainingConfig& config) {
  config::Field& field =
      fields.add("warmup_steps", config.warmup_steps, "Updates of the warm-up; null: by warmup_ratio", at_least(0));
  field.read = [read = field.read](const config::Node& node, config::Problems& problems) {
    const auto number = config::to_number(node);
    if (number && *number > 0 && *number < 1) {
      problems.push_back(
          {node.position, concat("counts updates; for a share of the run write warmup_ratio: ", node.text)});
    } else {
      read(node, problems);
    }
  };
}

void describe_optimizer(config::Fields& fields, TrainingConfig& config) {
  fields.add("optim", config.optim, "AdamW; both names are the same here");
  fields.add("learning_rate", config.learning_rate, "Peak rate; null: 2e-4 with LoRA, 1e-5 without, 1e-6 in grpo",
             at_least(0));
  fields.add("weight_decay", config.weight_decay, "Decoupled decay; never on biases and norm weights", at_least(0));
  fields.add("adam_beta1", config.adam_beta1, "Decay of the first moment", config::from_to_below(0, 1));
  fields.add("adam_beta2", config.adam_beta2, "Decay of the second moment", config::from_to_below(0, 1));
  fields.add("adam_epsilon", config.adam_epsilon, "Added to the root of the second moment", above(0));
  fields.add("max_grad_norm", config.max_grad_norm, "Largest gradient norm; 0: no clipping", at_least(0));
  fields.add("lr_scheduler_type", config.lr_scheduler_type, "Schedule of the rate, by transformers' name")
      .default_note = or_in_grpo("cosine", "linear");
  fields.section("lr_scheduler_kwargs", config.lr_scheduler_kwargs, "What the schedule takes; null: its default");
  describe_warmup_steps(fields, config);
  fields.add("warmup_ratio", config.warmup_ratio,
             "Warm-up as a share of the run; null: 0.03 where warmup_steps is not written, in grpo 0",
             config::between(0, 1));
  fields.section("loss_scaler", config.loss_scaler, "The loss scale of fp16 training, by DeepSpeed's names");
}

void describe_reports(config::Fields& fields, TrainingConfig& config) {
  config::Field& logging_steps =
      fields.add("logging_steps", config.logging_steps, "Updates between two logs", at_least(1));
  logging_steps.default_note = or_in_grpo("1", "10");
  logging_steps.read = [read = logging_steps.read, &config](const config::Node& node, config::Problems& problems) {
    read(node, problems);
    config.default_eval_steps = config.logging_steps;
  };
  fields.add("eval_strategy", config.eval_strategy, "When to evaluate; by steps and epochs also at the last step");
  fields.add("eval_steps", config.eval_steps,
             "Updates between two evaluations; null: logging_steps where it is written, else 500", at_least(1));
  fields.add("eval_on_start", config.eval_on_start, "Evaluate before the first update");
  fields.add("save_strategy", config.save_strategy,
             "When to save a checkpoint; by steps and epochs also at the last step");
  fields.add("save_steps", config.save_steps, "Updates between two checkpoints", at_least(1));
  fields.add("save_total_limit", config.save_total_limit,
             "Checkpoints of this run to keep, the best and the last among them; null: all", at_least(1));
  fields.add("save_only_model", config.save_only_model,
             "Leave out what resuming needs; a stop by a signal saves it all the same");
  fields.add("load_best_model_at_end", config.load_best_model_at_end,
             "Leave the weights of the best checkpoint that was saved in output_dir");
  fields.add("metric_for_best_model", config.metric_for_best_model,
             "What is best, a number that evaluations report; null: loss, in a grpo recipe reward");
  fields.add("greater_is_better", config.greater_is_better,
             "null: unless the metric's name ends in loss or perplexity");
  fields.add("early_stopping_patience", config.early_stopping_patience,
             "Evaluations without a better metric before the run ends; null: never", at_least(1));
  fields.add(
      "resume_from_checkpoint", config.resume_from_checkpoint,
      "Continue from nothing, the newest whole checkpoint of the latest run in output_dir (true), or a directory");
  config::Field& report_to = fields.add("report_to", config.report_to, "Curves besides metrics.jsonl");
  report_to.read = [read = report_to.read, &config](const config::Node& node, config::Problems& problems) {
    read(node, problems);
    const auto num_none = std::erase(config.report_to, ReportTo::kNone);
    if (num_none > 0 && !config.report_to.empty())
      problems.push_back({node.position, "has `none` beside others: write none alone, or leave it out"});
  };
  fields.add("full_determinism", config.full_determinism,
             "Operations that give the same bits each time, slower on CUDA; in GRPO also a sampler and a trainer that "
             "agree to the bit");
}

/// What DeepSpeed's schedules need of the keys beside them, and those that they do not read.
void validate_deepspeed_schedule(const TrainingConfig& config, config::Section& section) {
  const optim::SchedulerType type = config.lr_scheduler_type;
  const bool has_no_warmup = config.warmup_steps == 0 || (!config.warmup_steps && config.warmup_ratio == 0.0);
  if (optim::is_deepspeed_warmup(type) && has_no_warmup) {
    section.fault(
        config.warmup_steps ? "warmup_steps" : "warmup_ratio",
        concat("the schedule ", config::to_word(type), " needs a warm-up of at least 1 update, as DeepSpeed does"));
  }
  const auto& total = config.lr_scheduler_kwargs.total_num_steps;
  if (total && config.max_steps > 0 && *total != config.max_steps)
    section.conflict("lr_scheduler_kwargs.total_num_steps", "max_steps", "both say how long the run is; write one");
  if (type != optim::SchedulerType::kOneCycle) return;
  if (config.learning_rate != config.lr_scheduler_kwargs.cycle_max_lr)
    section.no_effect("learning_rate", "the schedule OneCycle goes from cycle_min_lr to cycle_max_lr");
  if (config.lr_scheduler_kwargs.cycle_momentum.value_or(true)) {
    const char* reason =
        "the schedule OneCycle moves AdamW's betas; lr_scheduler_kwargs.cycle_momentum: false leaves them";
    const TrainingConfig defaults;
    if (config.adam_beta1 != defaults.adam_beta1) section.no_effect("adam_beta1", reason);
    if (config.adam_beta2 != defaults.adam_beta2) section.no_effect("adam_beta2", reason);
  }
  if (config.warmup_steps.value_or(0) > 0) section.no_effect("warmup_steps", "the schedule OneCycle has no warm-up");
  if (config.warmup_ratio.value_or(0) > 0) section.no_effect("warmup_ratio", "the schedule OneCycle has no warm-up");
}

/// What needs evaluations: the best checkpoint and early stopping.
void validate_best(const TrainingConfig& config, config::Section& section) {
  const bool has_evaluation = config.eval_strategy != EvalStrategy::kNo;
  if (config.load_best_model_at_end && !has_evaluation)
    section.fault("load_best_model_at_end", "needs evaluations: write eval_strategy: steps or epoch");
  if (config.save_strategy == SaveStrategy::kBest && !has_evaluation)
    section.fault("save_strategy", "`best` needs evaluations: write eval_strategy: steps or epoch");
  if (config.early_stopping_patience && !has_evaluation)
    section.fault("early_stopping_patience", "needs evaluations: write eval_strategy: steps or epoch");
  if (!tracks_best(config)) {
    section.no_effect("metric_for_best_model",
                      "neither load_best_model_at_end, save_strategy: best nor early_stopping_patience asks for it");
    section.no_effect("greater_is_better",
                      "neither load_best_model_at_end, save_strategy: best nor early_stopping_patience asks for it");
  }
  if (!config.load_best_model_at_end || !has_evaluation || config.save_strategy == SaveStrategy::kBest) return;
  if (config::to_word(config.save_strategy) != config::to_word(config.eval_strategy)) {
    section.fault("load_best_model_at_end", concat("needs a checkpoint at each evaluation: write save_strategy: ",
                                                   config::to_word(config.eval_strategy), " (or best)"));
  } else if (config.eval_strategy == EvalStrategy::kSteps && config.save_steps % eval_steps_of(config) != 0) {
    section.fault("load_best_model_at_end", concat("needs save_steps (", config.save_steps,
                                                   ") to be a multiple of eval_steps (", eval_steps_of(config), ")"));
  }
}

}  // namespace

int64_t eval_steps_of(const TrainingConfig& config) {
  return config.eval_steps.value_or(config.default_eval_steps);
}

bool tracks_best(const TrainingConfig& config) {
  return config.load_best_model_at_end || config.save_strategy == SaveStrategy::kBest ||
         config.early_stopping_patience.has_value();
}

void describe_fields(config::Fields& fields, TrainingConfig& config) {
  describe_batches(fields, config);
  describe_optimizer(fields, config);
  describe_reports(fields, config);
  describe_other_arguments(fields);
}

void validate(const TrainingConfig& config, config::Section& section) {
  section.conflict("warmup_ratio", "warmup_steps", "both say how long the warm-up is; write one");
  if (config.bf16.value_or(false) && config.fp16.value_or(false))
    section.conflict("fp16", "bf16", "a model has one type; write one");
  // a value equal to its default asks for nothing: resolved.yaml writes them all
  if (config.max_steps > 0 && config.num_train_epochs != 1)
    section.no_effect("num_train_epochs", "max_steps sets the length of the run");
  const bool has_warmup = config.warmup_steps.value_or(0) > 0 || config.warmup_ratio.value_or(0) > 0;
  if (config.lr_scheduler_type == optim::SchedulerType::kConstant && has_warmup) {
    section.no_effect("warmup_steps", "the schedule `constant` has no warm-up; constant_with_warmup has");
    section.no_effect("warmup_ratio", "the schedule `constant` has no warm-up; constant_with_warmup has");
  }
  validate_deepspeed_schedule(config, section);
  if (config.eval_strategy != EvalStrategy::kSteps) section.no_effect("eval_steps", "eval_strategy is not steps");
  if (config.save_strategy != SaveStrategy::kSteps && config.save_steps != 500)
    section.no_effect("save_steps", "save_strategy is not steps");
  const TrainingConfig none;
  if (config.save_strategy == SaveStrategy::kNo && config.save_total_limit != none.save_total_limit)
    section.no_effect("save_total_limit", "save_strategy is no");
  if (config.save_strategy == SaveStrategy::kNo && config.save_only_model != none.save_only_model)
    section.no_effect("save_only_model", "save_strategy is no");
  validate_best(config, section);
  config::Section kwargs = section.inside("lr_scheduler_kwargs");
  optim::validate(config.lr_scheduler_kwargs, config.lr_scheduler_type, kwargs);
  config::Section scaler = section.inside("loss_scaler");
  optim::validate(config.loss_scaler, scaler);
}

}  // namespace dsft::train

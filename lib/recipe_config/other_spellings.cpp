#include "recipe_config/other_spellings.h"

namespace dsft::recipe_config {
namespace {

constexpr std::string_view kTrl = "TRL";
constexpr std::string_view kHf = "transformers";
constexpr std::string_view kPeft = "PEFT";
constexpr std::string_view kLlamaFactory = "LLaMA-Factory";
constexpr std::string_view kAxolotl = "Axolotl";
constexpr std::string_view kUnsloth = "Unsloth";
constexpr std::string_view kSwift = "ms-swift";
constexpr std::string_view kVerl = "verl";
constexpr std::string_view kTorchtune = "torchtune";
constexpr std::string_view kDeepSpeed = "DeepSpeed";

constexpr OtherSpelling kSpellings[] = {
    // model
    {"model_name_or_path", kTrl, "model.path"},
    {"pretrained_model_name_or_path", kHf, "model.path"},
    {"base_model", kAxolotl, "model.path"},
    {"model_id", kSwift, "model.path"},
    {"model_name", kUnsloth, "model.path"},
    {"model_path", kHf, "model.path"},
    {"model_revision", kTrl, "model.revision"},
    {"revision_of_model", kAxolotl, "model.revision"},
    {"torch_dtype", kHf, "model.dtype"},
    {"pure_bf16", kLlamaFactory, "model.dtype: bf16"},
    {"flash_attention", kAxolotl, "model.attn_implementation"},
    {"flash_attn", kLlamaFactory, "model.attn_implementation"},
    {"attn_impl", kSwift, "model.attn_implementation"},
    {"quantization_bit", kLlamaFactory, "model.load_in_4bit"},
    {"adapter_name_or_path", kLlamaFactory, "lora.adapter"},
    {"lora_model_dir", kAxolotl, "lora.adapter"},
    {"adapters", kSwift, "lora.adapter"},
    {"resume_from_adapter", kSwift, "lora.adapter"},
    // lora
    {"lora_r", kTrl, "lora.r"},
    {"lora_rank", kLlamaFactory, "lora.r"},
    {"rank", kTorchtune, "lora.r"},
    {"lora_alpha", kTrl, "lora.lora_alpha"},
    {"alpha", kTorchtune, "lora.lora_alpha"},
    {"lora_dropout", kTrl, "lora.lora_dropout"},
    {"dropout", kTorchtune, "lora.lora_dropout"},
    {"lora_target", kLlamaFactory, "lora.target_modules"},
    {"lora_target_modules", kTrl, "lora.target_modules"},
    {"lora_target_linear", kAxolotl, "lora.target_modules: all-linear"},
    {"lora_attn_modules", kTorchtune, "lora.target_modules"},
    {"lora_target_parameters", kTrl, "lora.target_parameters"},
    {"lora_modules_to_save", kAxolotl, "lora.modules_to_save"},
    {"additional_target", kLlamaFactory, "lora.modules_to_save"},
    {"lora_task_type", kTrl, "lora.task_type"},
    {"use_rslora", kTrl, "lora.use_rslora"},
    {"peft_use_rslora", kAxolotl, "lora.use_rslora"},
    {"finetuning_type", kLlamaFactory, "lora (the section makes it LoRA, its absence full fine-tuning)"},
    {"use_peft", kTrl, "lora (the section makes it LoRA, its absence full fine-tuning)"},
    {"train_type", kSwift, "lora (the section makes it LoRA, its absence full fine-tuning)"},
    {"tuner_type", kSwift, "lora (the section makes it LoRA, its absence full fine-tuning)"},
    {"peft", kHf, "lora"},
    {"peft_config", kTrl, "lora"},
    {"lora_config", kPeft, "lora"},
    // data
    {"data.train_files", kVerl, "data.train"},
    {"data.val_files", kVerl, "data.eval"},
    {"train_file", kHf, "data.train"},
    {"train_files", kVerl, "data.train"},
    {"validation_file", kHf, "data.eval"},
    {"val_files", kVerl, "data.eval"},
    {"dataset", kLlamaFactory, "data.train"},
    {"datasets", kAxolotl, "data.train"},
    {"dataset_name", kTrl, "data.train"},
    {"dataset_path", kSwift, "data.train"},
    {"train_dataset", kTrl, "data.train"},
    {"eval_dataset", kTrl, "data.eval"},
    {"val_dataset", kSwift, "data.eval"},
    {"test_datasets", kAxolotl, "data.eval"},
    {"val_set_size", kAxolotl, "data.eval_fraction"},
    {"val_size", kLlamaFactory, "data.eval_fraction"},
    {"test_split_size", kTrl, "data.eval_fraction"},
    {"split_dataset_ratio", kSwift, "data.eval_fraction"},
    {"cutoff_len", kLlamaFactory, "data.max_length"},
    {"max_seq_length", kTrl, "data.max_length"},
    {"max_seq_len", kTorchtune, "data.max_length"},
    {"sequence_len", kAxolotl, "data.max_length"},
    {"model_max_length", kHf, "data.max_length"},
    {"block_size", kHf, "data.max_length"},
    {"truncation_strategy", kSwift, "data.overlong"},
    {"excess_length_strategy", kAxolotl, "data.overlong"},
    {"truncation_mode", kTrl, "data.overlong"},
    {"sample_packing", kAxolotl, "data.packing"},
    {"packed", kTorchtune, "data.packing"},
    {"neat_packing", kLlamaFactory, "data.packing"},
    {"packing_strategy", kTrl, "data.packing"},
    {"assistant_only_loss", kTrl, "data.loss_on: assistant"},
    {"completion_only_loss", kTrl, "data.loss_on: completion"},
    {"train_on_inputs", kAxolotl, "data.loss_on: all"},
    {"train_on_prompt", kLlamaFactory, "data.loss_on: all"},
    {"train_on_input", kTorchtune, "data.loss_on: all"},
    {"loss_scale", kSwift, "data.loss_on"},
    {"roles_to_train", kAxolotl, "data.loss_on"},
    {"chat_template_path", kTrl, "data.chat_template"},
    {"chat_template_jinja", kAxolotl, "data.chat_template"},
    {"template", kLlamaFactory, "data.chat_template"},
    {"shuffle_dataset", kTrl, "data.shuffle"},
    {"dataset_shuffle", kSwift, "data.shuffle"},
    {"preprocessing_num_workers", kLlamaFactory, "data.num_workers"},
    {"dataset_num_proc", kTrl, "data.num_workers"},
    {"dataset_processes", kAxolotl, "data.num_workers"},
    // training
    {"num_epochs", kAxolotl, "training.num_train_epochs"},
    {"epochs", kTorchtune, "training.num_train_epochs"},
    {"total_epochs", kVerl, "training.num_train_epochs"},
    {"max_steps_per_epoch", kTorchtune, "training.max_steps"},
    {"per_gpu_train_batch_size", kHf, "training.per_device_train_batch_size"},
    {"per_gpu_eval_batch_size", kHf, "training.per_device_eval_batch_size"},
    {"micro_batch_size", kAxolotl, "training.per_device_train_batch_size"},
    {"train_batch_size", kDeepSpeed, "training.per_device_train_batch_size and training.gradient_accumulation_steps"},
    {"train_micro_batch_size_per_gpu", kDeepSpeed, "training.per_device_train_batch_size"},
    {"batch_size", kTorchtune, "training.per_device_train_batch_size"},
    {"eval_batch_size", kAxolotl, "training.per_device_eval_batch_size"},
    {"lr", kTorchtune, "training.learning_rate"},
    {"optimizer", kAxolotl, "training.optim"},
    {"adam_eps", kDeepSpeed, "training.adam_epsilon"},
    {"betas", kDeepSpeed, "training.adam_beta1 and training.adam_beta2"},
    {"gradient_clipping", kDeepSpeed, "training.max_grad_norm"},
    {"clip_grad_norm", kTorchtune, "training.max_grad_norm"},
    {"lr_scheduler", kAxolotl, "training.lr_scheduler_type"},
    {"lr_scheduler_args", kAxolotl, "training.lr_scheduler_kwargs"},
    {"num_warmup_steps", kTorchtune, "training.warmup_steps"},
    {"activation_checkpointing", kDeepSpeed, "training.gradient_checkpointing"},
    {"enable_activation_checkpointing", kTorchtune, "training.gradient_checkpointing"},
    {"log_every_n_steps", kTorchtune, "training.logging_steps"},
    {"evaluation_strategy", kHf, "training.eval_strategy"},
    {"evals_per_epoch", kAxolotl, "training.eval_strategy and training.eval_steps"},
    {"saves_per_epoch", kAxolotl, "training.save_strategy and training.save_steps"},
    {"use_wandb", kUnsloth, "training.report_to: [wandb]"},
    {"wandb_project", kAxolotl, "training.report_to: [wandb]"},
    {"early_stopping_steps", kLlamaFactory, "training.early_stopping_patience"},
    {"resume_from", kHf, "training.resume_from_checkpoint"},
    {"auto_resume_from_checkpoints", kAxolotl, "training.resume_from_checkpoint: true"},
    {"deterministic", kHf, "training.full_determinism"},
    // grpo
    {"reward_funcs", kTrl, "grpo.rewards, a list of built-in functions and of programs (docs/rewards.md)"},
    // the rest
    {"zero_optimization", kDeepSpeed, "zero"},
    {"zero_stage", "Accelerate", "zero.stage"},
    {"offload_optimizer_device", "Accelerate", "zero.offload_optimizer: {device: ...}"},
    {"offload_param_device", "Accelerate", "zero.offload_param: {device: ...}"},
    {"deepspeed_config", kDeepSpeed, "deepspeed"},
    {"random_seed", kUnsloth, "seed"},
    {"random_state", kUnsloth, "seed"},
    {"output_path", kTorchtune, "output_dir"},
    {"save_dir", kTorchtune, "output_dir"},
    {"stage", kLlamaFactory, "recipe: sft"},
    {"rlhf_type", kSwift, "recipe: grpo"},
    {"predict_with_generate", kHf, "eval.metrics"},
    {"compute_metrics", kHf, "eval.metrics"},
};

}  // namespace

std::optional<OtherSpelling> find_other_spelling(std::string_view path) {
  for (const OtherSpelling& spelling : kSpellings) {
    if (spelling.theirs == path) return spelling;
  }
  const std::string_view leaf = path.substr(path.rfind('.') + 1);  // npos + 1 is 0
  for (const OtherSpelling& spelling : kSpellings) {
    if (spelling.theirs == leaf) return spelling;
  }
  return std::nullopt;
}

}  // namespace dsft::recipe_config

#include "train/other_arguments_config.h"

#include "config/fields.h"

namespace dsft::train {
namespace {

constexpr const char* kNoLoader = "there is no loader process here";
constexpr const char* kNoPadding = "there is no padding";
constexpr const char* kOwnRanks = "ranks are joined by dsft itself";
constexpr const char* kOwnLogs = "every logging_steps updates go to metrics.jsonl and output_dir/tb";
constexpr const char* kOwnKernels = "dsft has kernels of its own and compiles nothing while it runs";
constexpr const char* kNoUpload = "nothing is uploaded; `hf upload` does it afterwards";
constexpr const char* kNoSwitch = "dsft has no such switch (docs/recipe.md)";

struct Unused {
  const char* name;
  const char* reason;
};

constexpr Unused kUnused[] = {
    {"dataloader_num_workers", "data.num_workers sets the threads that tokenise"},
    {"dataloader_pin_memory", kNoLoader},
    {"dataloader_persistent_workers", kNoLoader},
    {"dataloader_prefetch_factor", kNoLoader},
    {"dataloader_multiprocessing_context", kNoLoader},
    {"dataloader_in_order", kNoLoader},
    {"dataloader_drop_last", "the last short update steps too, with its own token count"},
    {"group_by_length", kNoPadding},
    {"length_column_name", kNoPadding},
    {"pad_token", kNoPadding},
    {"pad_to_multiple_of", kNoPadding},
    {"padding_free", kNoPadding},
    {"remove_unused_columns", "columns without a use are ignored"},
    {"label_names", "the rows' format and data.loss_on say what is learned (docs/data.md)"},
    {"dataset_text_field", "a row's format is read from its fields (docs/data.md)"},
    {"dataset_kwargs", "a row's format is read from its fields (docs/data.md)"},
    {"eval_packing", "an evaluation gives the same numbers packed or not"},
    {"gradient_checkpointing_kwargs", "there is one way to recompute"},
    {"average_tokens_across_devices", "every token of an update always counts the same"},
    {"router_aux_loss_coef", "no family here has experts"},
    {"use_cache", "training keeps no cache, generation always does"},
    {"include_for_metrics", "eval.metrics says what is measured"},
    {"enable_jit_checkpoint", "a stop by a signal always saves"},
    {"ddp_timeout", "no step has a time limit yet: it comes with multi-host launching"},
    {"ddp_find_unused_parameters", kOwnRanks},
    {"ddp_bucket_cap_mb", kOwnRanks},
    {"ddp_broadcast_buffers", kOwnRanks},
    {"ddp_backend", kOwnRanks},
    {"ddp_static_graph", kOwnRanks},
    {"local_rank", kOwnRanks},
    {"accelerator_config", kOwnRanks},
    {"logging_dir", kOwnLogs},
    {"logging_strategy", kOwnLogs},
    {"logging_first_step", kOwnLogs},
    {"logging_nan_inf_filter", kOwnLogs},
    {"log_level", kOwnLogs},
    {"log_level_replica", kOwnLogs},
    {"log_on_each_node", kOwnLogs},
    {"disable_tqdm", kOwnLogs},
    {"run_name", kOwnLogs},
    {"project", kOwnLogs},
    {"include_num_input_tokens_seen", kOwnLogs},
    {"trackio_space_id", kOwnLogs},
    {"trackio_bucket_id", kOwnLogs},
    {"trackio_static_space_id", kOwnLogs},
    {"torch_compile", kOwnKernels},
    {"torch_compile_backend", kOwnKernels},
    {"torch_compile_mode", kOwnKernels},
    {"use_liger_kernel", kOwnKernels},
    {"liger_kernel_config", kOwnKernels},
    {"push_to_hub", kNoUpload},
    {"hub_model_id", kNoUpload},
    {"hub_strategy", kNoUpload},
    {"hub_token", kNoUpload},
    {"hub_private_repo", kNoUpload},
    {"hub_always_push", kNoUpload},
    {"hub_revision", kNoUpload},
    {"save_safetensors", kNoSwitch},
    {"save_on_each_node", kNoSwitch},
    {"overwrite_output_dir", kNoSwitch},
    {"do_train", kNoSwitch},
    {"do_eval", kNoSwitch},
    {"do_predict", kNoSwitch},
    {"prediction_loss_only", kNoSwitch},
    {"eval_accumulation_steps", kNoSwitch},
    {"eval_delay", kNoSwitch},
    {"eval_do_concat_batches", kNoSwitch},
    {"eval_use_gather_object", kNoSwitch},
    {"batch_eval_metrics", kNoSwitch},
    {"tf32", kNoSwitch},
    {"skip_memory_metrics", kNoSwitch},
    {"torch_empty_cache_steps", kNoSwitch},
    {"data_seed", kNoSwitch},
    {"use_cpu", kNoSwitch},
    {"no_cuda", kNoSwitch},
    {"half_precision_backend", kNoSwitch},
    {"bf16_full_eval", kNoSwitch},
    {"fp16_full_eval", kNoSwitch},
    {"fp16_opt_level", kNoSwitch},
    {"debug", kNoSwitch},
    {"ignore_data_skip", kNoSwitch},
    {"restore_callback_states_from_checkpoint", kNoSwitch},
};

struct Refused {
  const char* name;
  const char* instead;
  std::vector<std::string> harmless;
};

const std::vector<Refused>& refused_arguments() {
  static const std::vector<Refused> arguments = {
      {"label_smoothing_factor", "the loss is the plain negative log-likelihood", {"0"}},
      {"neftune_noise_alpha", "no noise is added to embeddings", {"0"}},
      {"loss_type", "the loss is the negative log-likelihood (nll)", {"nll", "chunked_nll"}},
      {"activation_offloading", "activations stay on their device; gradient_checkpointing saves memory", {"false"}},
      {"fsdp", "sharding is ZeRO's here (section zero)", {"", "[]", "{}", "false"}},
      {"fsdp_config", "sharding is ZeRO's here (section zero)", {"{}"}},
      {"parallelism_config", "sharding is ZeRO's here (section zero)", {"{}"}},
      {"optim_args", "AdamW has keys of its own (adam_beta1, ...)", {}},
      {"optim_target_modules", "only AdamW is built", {"[]"}},
      {"train_sampling_strategy",
       "write data.shuffle: false for the order of the files",
       {"random", "group_by_length", "batch_rebalance"}},
      {"model_init_kwargs", "its keys stand in section model (dtype, attn_implementation, revision)", {"{}"}},
      {"trust_remote_code", "dsft runs no code of a checkpoint", {"false"}},
      {"eos_token",
       "a turn ends in the tokenizer's eos_token or the template's stop token: write it into tokenizer_config.json, or "
       "name a template in data.chat_template",
       {}},
      {"max_length", "it is data.max_length here", {}},
      {"packing", "it is data.packing here", {}}};
  return arguments;
}

}  // namespace

void describe_other_arguments(config::Fields& fields) {
  for (const auto& [name, reason] : kUnused) fields.no_effect(name, reason);
  for (const auto& [name, instead, harmless] : refused_arguments()) fields.refused(name, instead, harmless);
}

}  // namespace dsft::train

#include "recipe_config/deepspeed_keys.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "base/error.h"
#include "base/nearest_name.h"
#include "recipe_config/other_spellings.h"
#include "recipe_config/unknown_key.h"

namespace dsft::recipe_config {
namespace {

constexpr auto kNone = KeyRole::kNoEffect;
constexpr auto kRefused = KeyRole::kRefused;
constexpr auto kRemoved = KeyRole::kRemoved;

constexpr const char* kZero = "zero_optimization";
constexpr const char* kOffloadOptimizer = "zero_optimization.offload_optimizer";
constexpr const char* kOffloadParam = "zero_optimization.offload_param";
constexpr const char* kOptimizer = "optimizer.params";
constexpr const char* kOwnLogs = "every logging_steps updates go to metrics.jsonl and output_dir/tb";
constexpr const char* kNoDisk = "nothing is swapped to a disk";
constexpr const char* kProfiler = "`dsft bench` measures";
constexpr const char* kOwnGathering = "blocks are gathered and reduced as a whole";
constexpr const char* kOwnCheckpoints = "checkpoints have a form of their own (docs/runs.md)";
constexpr const char* kGone = "was removed from DeepSpeed, which refuses it; remove the key";

constexpr DeepSpeedKey kKeys[] = {
    {"", "train_batch_size"},
    {"", "train_micro_batch_size_per_gpu"},
    {"", "gradient_accumulation_steps"},
    {"", "gradient_clipping"},
    {"", "optimizer"},
    {"", "scheduler"},
    {"", "fp16"},
    {"", "bf16"},
    {"", "bfloat16"},
    {"", "zero_optimization"},
    {"", "gradient_allreduce_op"},
    {"", "sequence_parallel_size"},
    {"", "data_parallel_size", kNone, "the number of ranks follows from the launch"},
    {"", "managed_gradient_accumulation", kNone, "gradients are always accumulated by dsft"},
    {"", "steps_per_print", kNone, kOwnLogs},
    {"", "wall_clock_breakdown", kNone, kProfiler},
    {"", "memory_breakdown", kNone, kProfiler},
    {"", "flops_profiler", kNone, kProfiler},
    {"", "comms_logger", kNone, kProfiler},
    {"", "timers", kNone, kProfiler},
    {"", "autotuning", kNone, "`dsft estimate-memory` and auto_find_batch_size look for what fits"},
    {"", "dump_state", kNone, "`dsft check` and resolved.yaml show every value"},
    {"", "log_level", kNone, kOwnLogs},
    {"", "tensorboard", kNone, "training.report_to says where curves go"},
    {"", "wandb", kNone, "training.report_to says where curves go"},
    {"", "csv_monitor", kNone, "training.report_to says where curves go"},
    {"", "comet", kNone, "training.report_to says where curves go"},
    {"", "disable_allgather", kNone, kOwnGathering},
    {"", "disable_python_gc", kNone, "no Python runs"},
    {"", "communication_data_type", kNone, "gradients are summed in fp32"},
    {"", "seq_parallel_communication_data_type", kNone, "sequences are not cut over ranks"},
    {"", "prescale_gradients", kNone, "gradients are summed in fp32"},
    {"", "gradient_predivide_factor", kNone, "gradients are summed in fp32"},
    {"", "data_types", kNone, "gradients are accumulated in fp32"},
    {"", "dataloader_drop_last", kNone, "the last short update steps too, with its own token count"},
    {"", "zero_allow_untested_optimizer", kNone, "there is one optimizer"},
    {"", "zero_force_ds_cpu_optimizer", kNone, "there is one optimizer"},
    {"", "vocabulary_size", kNone, "the model's files say it"},
    {"", "aio", kNone, kNoDisk},
    {"", "activation_checkpointing", kNone, "training.gradient_checkpointing recomputes blocks"},
    {"", "checkpoint", kNone, kOwnCheckpoints},
    {"", "datastates_ckpt", kNone, kOwnCheckpoints},
    {"", "pipeline", kNone, "there are no pipeline stages"},
    {"", "compile", kNone, "dsft has kernels of its own and compiles nothing while it runs"},
    {"", "use_data_before_expert_parallelism", kNone, "experts are not spread over ranks"},
    {"", "local_rank", kNone, "ranks are joined by dsft itself"},
    {"", "hybrid_engine", kRefused, "generation has an engine of its own"},
    {"", "data_efficiency", kRefused, "curricula and random layer dropping are not built"},
    {"", "tensor_parallel", kRefused, "tensor parallelism is not built; zero.stage shards instead"},
    {"", "expert_parallel", kRefused, "expert parallelism is not built"},
    {"", "weight_quantization", kRefused, "quantised weights are not read from here"},
    {"", "torch_autocast", kRefused, "model.dtype says what is computed in"},
    {"", "nebula", kRemoved, kGone},
    {"", "compression_training", kRemoved, kGone},
    {"", "amp", kRemoved, kGone},
    {"", "quantize_training", kRemoved, kGone},
    {"", "sparse_gradients", kRemoved, kGone},
    {"", "eigenvalue", kRemoved, kGone},
    {"", "sparse_attention", kRemoved, kGone},
    {"", "elasticity", kRemoved, kGone},
    {"", "graph_harvesting", kRemoved, kGone},
    {"", "curriculum_learning", kRemoved, kGone},
    {"", "progressive_layer_drop", kRemoved, kGone},

    {"fp16", "enabled"},
    {"fp16", "loss_scale"},
    {"fp16", "initial_scale_power"},
    {"fp16", "loss_scale_window"},
    {"fp16", "hysteresis"},
    {"fp16", "consecutive_hysteresis"},
    {"fp16", "min_loss_scale"},
    {"fp16", "auto_cast", kNone, "token ids are no floats"},
    {"fp16", "fp16_master_weights_and_grads", kRefused, "master weights are kept in fp32"},
    {"bf16", "enabled"},
    {"bf16", "immediate_grad_update", kNone, "gradients are added in fp32 as they are computed"},
    {"bf16", "check_grad_overflow", kNone, "an update with non-finite gradients is always skipped"},
    {"bf16", "bf16_master_weights_and_grads", kRefused, "master weights are kept in fp32"},
    {"bf16", "bf16_optimizer_states", kRefused, "moments are kept in fp32"},

    {kZero, "stage"},
    {kZero, "offload_optimizer"},
    {kZero, "offload_param"},
    {kZero, "overlap_comm"},
    {kZero, "contiguous_gradients"},
    {kZero, "reduce_bucket_size"},
    {kZero, "allgather_bucket_size"},
    {kZero, "stage3_prefetch_bucket_size"},
    {kZero, "prefetch_bucket_size"},
    {kZero, "stage3_param_persistence_threshold"},
    {kZero, "param_persistence_threshold"},
    {kZero, "stage3_max_live_parameters"},
    {kZero, "max_live_parameters"},
    {kZero, "stage3_max_reuse_distance"},
    {kZero, "max_reuse_distance"},
    {kZero, "stage3_gather_16bit_weights_on_model_save"},
    {kZero, "gather_16bit_weights_on_model_save"},
    {kZero, "stage3_gather_fp16_weights_on_model_save"},
    {kZero, "cpu_offload"},
    {kZero, "cpu_offload_param"},
    {kZero, "cpu_offload_use_pin_memory"},
    {kZero, "reduce_scatter", kNone, kOwnGathering},
    {kZero, "use_multi_rank_bucket_allreduce", kNone, kOwnGathering},
    {kZero, "allgather_partitions", kNone, kOwnGathering},
    {kZero, "sub_group_size", kNone, kOwnGathering},
    {kZero, "round_robin_gradients", kNone, kOwnGathering},
    {kZero, "parameter_alignment", kNone, "slices are always aligned"},
    {kZero, "compute_grad_norm", kNone, "the norm is always computed"},
    {kZero, "load_from_fp32_weights", kNone, kOwnCheckpoints},
    {kZero, "elastic_checkpoint", kNone, kOwnCheckpoints},
    {kZero, "pipeline_loading_checkpoint", kNone, kOwnCheckpoints},
    {kZero, "stage3_model_persistence_threshold", kNone, kOwnGathering},
    {kZero, "model_persistence_threshold", kNone, kOwnGathering},
    {kZero, "stage3_module_granularity_threshold", kNone, kOwnGathering},
    {kZero, "module_granularity_threshold", kNone, kOwnGathering},
    {kZero, "stage3_use_all_reduce_for_fetch_params", kNone, kOwnGathering},
    {kZero, "use_all_reduce_for_fetch_params", kNone, kOwnGathering},
    {kZero, "stage3_allgather_sequential", kNone, kOwnGathering},
    {kZero, "allgather_sequential", kNone, kOwnGathering},
    {kZero, "zero_hpz_partition_size", kNone, "weights are sharded over all ranks"},
    {kZero, "zero_quantized_weights", kNone, "what ranks exchange is not quantised"},
    {kZero, "zero_quantized_nontrainable_weights", kNone, "what ranks exchange is not quantised"},
    {kZero, "zero_quantized_gradients", kNone, "what ranks exchange is not quantised"},
    {kZero, "ignore_unused_parameters", kNone, "every parameter of a model takes part"},
    {kZero, "legacy_stage1", kNone, "there is one stage 1"},
    {kZero, "memory_efficient_linear", kNone, "dsft has kernels of its own"},
    {kZero, "override_module_apply", kNone, "no Python runs"},
    {kZero, "log_trace_cache_warnings", kNone, "there is no trace"},
    {kZero, "enable_sanity_checks", kNone, "checks of its own are always on"},
    {kZero, "save_muon_momentum_buffer_in_memory", kNone, "the optimizer is AdamW"},
    {kZero, "leaf_module", kNone, kOwnGathering},
    {kZero, "zenflow", kRefused, "updates that lag behind are not built"},
    {kZero, "mics_shard_size", kRemoved, kGone},
    {kZero, "mics_hierarchical_params_gather", kRemoved, kGone},
    {kZero, "zeropp_loco_param", kRemoved, kGone},

    {kOffloadOptimizer, "device"},
    {kOffloadOptimizer, "pin_memory"},
    {kOffloadOptimizer, "nvme_path", kNone, kNoDisk},
    {kOffloadOptimizer, "buffer_count", kNone, kNoDisk},
    {kOffloadOptimizer, "pipeline_read", kNone, kNoDisk},
    {kOffloadOptimizer, "pipeline_write", kNone, kNoDisk},
    {kOffloadOptimizer, "fast_init", kNone, kNoDisk},
    {kOffloadOptimizer, "ratio", kNone, "the optimizer's state is offloaded as a whole"},
    {kOffloadOptimizer, "super_offload", kNone, "all cores that the rank may use compute"},
    {kOffloadOptimizer, "cpuadam_cores_perc", kNone, "all cores that the rank may use compute"},
    {kOffloadParam, "device"},
    {kOffloadParam, "pin_memory"},
    {kOffloadParam, "nvme_path", kNone, kNoDisk},
    {kOffloadParam, "buffer_count", kNone, kNoDisk},
    {kOffloadParam, "buffer_size", kNone, kNoDisk},
    {kOffloadParam, "max_in_cpu", kNone, kNoDisk},

    {"optimizer", "type"},
    {"optimizer", "params"},
    {"optimizer", "legacy_fusion", kNone, "the optimizer is one fused pass"},
    {kOptimizer, "lr"},
    {kOptimizer, "betas"},
    {kOptimizer, "eps"},
    {kOptimizer, "weight_decay"},
    {kOptimizer, "adam_w_mode"},
    {kOptimizer, "bias_correction"},
    {kOptimizer, "amsgrad"},
    {kOptimizer, "max_grad_norm", kRemoved, "is refused by DeepSpeed here: write `gradient_clipping` at the top"},
    {kOptimizer, "torch_adam", kNone, "there is one AdamW"},
    {kOptimizer, "adamw_mode", kNone, "there is one AdamW"},
    {kOptimizer, "fp32_optimizer_states", kNone, "moments are kept in fp32"},
    {kOptimizer, "set_grad_none", kNone, "gradients have a storage of their own"},
    {kOptimizer, "fused", kNone, "the optimizer is one fused pass"},
    {kOptimizer, "foreach", kNone, "the optimizer is one fused pass"},
    {kOptimizer, "capturable", kNone, "the optimizer is one fused pass"},

    {"scheduler", "type"},
    {"scheduler", "params"},

    // blocks without effect, inside which DeepSpeed refuses what it does not know
    {"tensorboard", "enabled"},
    {"tensorboard", "job_name"},
    {"tensorboard", "output_path"},
    {"wandb", "enabled"},
    {"wandb", "group"},
    {"wandb", "project"},
    {"wandb", "team"},
    {"csv_monitor", "enabled"},
    {"csv_monitor", "job_name"},
    {"csv_monitor", "output_path"},
    {"comet", "api_key"},
    {"comet", "enabled"},
    {"comet", "experiment_key"},
    {"comet", "experiment_name"},
    {"comet", "mode"},
    {"comet", "online"},
    {"comet", "project"},
    {"comet", "samples_log_interval"},
    {"comet", "workspace"},
    {"comms_logger", "debug"},
    {"comms_logger", "enabled"},
    {"comms_logger", "prof_all"},
    {"comms_logger", "prof_ops"},
    {"comms_logger", "verbose"},
    {"compile", "autoep_non_moe"},
    {"compile", "debug_log"},
    {"compile", "deepcompile"},
    {"compile", "double_buffer"},
    {"compile", "free_activation"},
    {"compile", "free_activation_threshold"},
    {"compile", "keep_all_input_tensors"},
    {"compile", "keep_int_input_tensors"},
    {"compile", "offload_activation"},
    {"compile", "offload_activation_pin_memory"},
    {"compile", "offload_opt_states"},
    {"compile", "offload_parameters"},
    {"compile", "passes"},
    {"compile", "symmetric_memory"},
    {"compile", "sync_after_allgather"},
    {"compile", "sync_after_reduce"},
    {"compile", "sync_before_allgather"},
    {"compile", "sync_before_reduce"},
    {"zero_optimization.leaf_module", "classes"},
    {"zero_optimization.leaf_module", "name_suffixes"},
    {"zero_optimization.leaf_module", "names"},
};

bool has_known_keys(std::string_view block) {
  return std::any_of(std::begin(kKeys), std::end(kKeys), [&](const DeepSpeedKey& key) { return key.block == block; });
}

/// Whether the value of a key of KeyRole::kRefused asks for nothing.
bool is_off(const config::Node& node) {
  if (node.is_null() || is_auto(node)) return true;
  if (!node.is_map()) return config::to_bool(unquoted(node)) == false;
  const config::Node* enabled = node.find("enabled");
  if (enabled) return is_off(*enabled);
  const config::Node* size = node.find("autotp_size");
  return node.entries.empty() || (size && config::to_integer(unquoted(*size)).value_or(1) <= 1);
}

/// Where a key that is unknown here belongs.
std::string explain_stray(std::string_view name, std::string_view block) {
  std::vector<std::string> names;
  for (const DeepSpeedKey& key : kKeys) {
    if (key.block == block && key.role != kRemoved) names.emplace_back(key.name);
    if (key.name == name && key.name != "enabled" && key.name != "params") {
      return key.block.empty() ? concat("belongs to the top of the file") : concat("belongs into `", key.block, "`");
    }
  }
  if (const auto keys = find_recipe_keys(name); block.empty() && !keys.empty())
    return concat("in the recipe it is `", keys.front(), "`");
  if (const auto other = find_other_spelling(name); other && block.empty())
    return concat("in the recipe it is `", other->ours, "`");
  const std::string nearest = nearest_name(name, names);
  return nearest.empty() ? "remove it" : concat("did you mean `", nearest, "`?");
}

}  // namespace

void check_deepspeed_keys(ImportedBlock& block, std::string_view block_name, bool is_strict) {
  for (const config::Entry& entry : block.entries()) {
    const auto key = std::find_if(std::begin(kKeys), std::end(kKeys), [&](const DeepSpeedKey& known) {
      return known.block == block_name && known.name == entry.key;
    });
    if (key == std::end(kKeys)) {
      const std::string advice = explain_stray(entry.key, block_name);
      if (is_strict) {
        block.fault(entry, concat("is unknown here, and DeepSpeed refuses it: ", advice));
      } else {
        block.warn(entry, concat("has no effect: DeepSpeed ignores a key that it does not know here; ", advice));
      }
    } else if (key->role == kRemoved) {
      block.fault(entry, std::string(key->reason));
    } else if (key->role == kRefused && !is_off(entry.value)) {
      block.fault(entry, concat("is not supported: ", key->reason));
    } else if (key->role == kNone && !entry.value.is_null()) {
      block.no_effect(entry, key->reason);
      const std::string inner_name = block_name.empty() ? entry.key : concat(block_name, ".", entry.key);
      if (!has_known_keys(inner_name)) continue;
      ImportedBlock inner = block.inside(entry);
      check_deepspeed_keys(inner, inner_name, /*is_strict=*/true);
    }
  }
}

}  // namespace dsft::recipe_config

#include "zero/zero_config.h"

#include "base/error.h"
#include "config/fields.h"
#include "config/section.h"

namespace dsft::zero {

void describe_fields(config::Fields& fields, OffloadConfig& config) {
  fields.add("device", config.device, "Where it lives; none: on the device that computes");
  fields.add("pin_memory", config.pin_memory, "Page-locked host memory; without effect where nothing is offloaded");
}

void describe_fields(config::Fields& fields, ZeroConfig& config) {
  fields.add(
      "stage", config.stage,
      "What the ranks share; 0: nothing, each has the whole state; 1: the optimizer's state; 2: gradients too; 3: "
      "parameters too",
      config::between(0, 3));
  fields.section("offload_optimizer", config.offload_optimizer,
                 "Optimizer state and updates in host memory, from stage 1 on; LoRA's stay on the device");
  fields.section("offload_param", config.offload_param,
                 "Parameters, also frozen ones, in host memory, at stage 3; without effect below");
  const auto add = [&](const char* name, auto& member, const std::string& help, auto... range) {
    fields.add(name, member, help + "; without effect at stage 0", range...);
  };
  add("overlap_comm", config.overlap_comm,
      "Reduce gradients while the backward pass runs; at stage 3 gather a block while the one before it runs");
  add("contiguous_gradients", config.contiguous_gradients, "Gradients in one flat storage");
  add("reduce_bucket_size", config.reduce_bucket_size, "Elements reduced at once", config::at_least(1));
  add("allgather_bucket_size", config.allgather_bucket_size, "Elements gathered at once", config::at_least(1));
  add("stage3_prefetch_bucket_size", config.stage3_prefetch_bucket_size, "Elements gathered ahead",
      config::at_least(0));
  add("stage3_param_persistence_threshold", config.stage3_param_persistence_threshold,
      "Smaller parameters are never sharded", config::at_least(0));
  add("stage3_max_live_parameters", config.stage3_max_live_parameters, "Most elements gathered at a time",
      config::at_least(0));
  add("stage3_max_reuse_distance", config.stage3_max_reuse_distance,
      "Keep a parameter that is used again within so many elements", config::at_least(0));
  fields.add(
      "stage3_gather_16bit_weights_on_model_save", config.stage3_gather_16bit_weights_on_model_save,
      "Save whole weights, each block gathered while it is written; false: each rank writes its slices, of which "
      "`dsft consolidate` makes a checkpoint. Adapters, and weights below stage 3, are whole anyway");
}

void validate(const ZeroConfig& config, config::Section& section) {
  if (config.stage == 0 && config.offload_optimizer.device == OffloadDevice::kCpu)
    section.inside("offload_optimizer")
        .fault("device", "cpu is of stages 1 to 3: write zero.stage: 1 (or higher, which takes less), or device: none");
  if (config.stage < 3 && config.offload_param.device == OffloadDevice::kCpu)
    section.inside("offload_param").no_effect("device", "stage 3 alone shards parameters");
  // resolved.yaml writes every key with its default: only other values are worth a word
  const ZeroConfig defaults;
  const auto warn_where = [&](const char* key, bool is_changed, const char* reason) {
    if (is_changed) section.no_effect(key, config.stage == 0 ? "stage 0 shards nothing" : reason);
  };
  const auto of_stage_3 = [&](const char* key, bool is_changed) {
    warn_where(key, is_changed,
               config.stage < 3 ? "stage 3 alone shards parameters"
                                : "parameters are gathered by blocks, each while the one before it runs");
  };
  if (config.stage < 3)
    of_stage_3("stage3_gather_16bit_weights_on_model_save", !config.stage3_gather_16bit_weights_on_model_save);
  if (config.stage == 0) warn_where("overlap_comm", config.overlap_comm != defaults.overlap_comm, "");
  warn_where("contiguous_gradients", config.contiguous_gradients != defaults.contiguous_gradients,
             "gradients lie in one flat storage anyway");
  warn_where("reduce_bucket_size", config.reduce_bucket_size != defaults.reduce_bucket_size,
             "the gradients of a block are reduced as one");
  warn_where("allgather_bucket_size", config.allgather_bucket_size != defaults.allgather_bucket_size,
             "the parameters of a block are gathered as one");
  of_stage_3("stage3_prefetch_bucket_size", config.stage3_prefetch_bucket_size != defaults.stage3_prefetch_bucket_size);
  of_stage_3("stage3_param_persistence_threshold",
             config.stage3_param_persistence_threshold != defaults.stage3_param_persistence_threshold);
  of_stage_3("stage3_max_live_parameters", config.stage3_max_live_parameters != defaults.stage3_max_live_parameters);
  of_stage_3("stage3_max_reuse_distance", config.stage3_max_reuse_distance != defaults.stage3_max_reuse_distance);
}

}  // namespace dsft::zero

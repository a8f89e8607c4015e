#include "zero/zero_config.h"

#include "base/error.h"
#include "config/fields.h"
#include "config/section.h"

namespace dsft::zero {

void describe_fields(config::Fields& fields, OffloadConfig& config) {
  fields.add("device", config.device, "Where the state lives");
  fields.add("pin_memory", config.pin_memory, "Page-locked host memory");
}

void describe_fields(config::Fields& fields, ZeroConfig& config) {
  fields.add("stage", config.stage, "0: nothing sharded; 1: optimizer state; 2: gradients too; 3: parameters too",
             config::between(0, 3));
  fields.section("offload_optimizer", config.offload_optimizer, "Optimizer state in host memory");
  fields.section("offload_param", config.offload_param, "Parameters in host memory");
  fields.add("overlap_comm", config.overlap_comm, "Reduce gradients while the backward pass runs");
  fields.add("contiguous_gradients", config.contiguous_gradients, "Gradients in one flat storage");
  fields.add("reduce_bucket_size", config.reduce_bucket_size, "Elements reduced at once", config::at_least(1));
  fields.add("allgather_bucket_size", config.allgather_bucket_size, "Elements gathered at once", config::at_least(1));
  fields.add("stage3_prefetch_bucket_size", config.stage3_prefetch_bucket_size, "Elements gathered ahead",
             config::at_least(0));
  fields.add("stage3_param_persistence_threshold", config.stage3_param_persistence_threshold,
             "Smaller parameters are never sharded", config::at_least(0));
  fields.add("stage3_max_live_parameters", config.stage3_max_live_parameters, "Most elements gathered at a time",
             config::at_least(0));
  fields.add("stage3_max_reuse_distance", config.stage3_max_reuse_distance,
             "Keep a parameter that is used again within so many elements", config::at_least(0));
  fields.add("stage3_gather_16bit_weights_on_model_save", config.stage3_gather_16bit_weights_on_model_save,
             "Save whole weights");
}

void validate(const ZeroConfig& config, config::Section& section) {
  constexpr const char* kComes = " is not built yet: it comes with ZeRO sharding";
  if (config.stage > 0) {
    section.fault("stage", concat("stage ", config.stage, kComes, "; write stage: 0"));
    return;
  }
  if (config.offload_optimizer.device != OffloadDevice::kNone)
    section.fault("offload_optimizer.device", concat("offload", kComes));
  if (config.offload_param.device != OffloadDevice::kNone)
    section.fault("offload_param.device", concat("offload", kComes));
  // resolved.yaml writes every key with its default: only other values are worth a word
  const ZeroConfig defaults;
  const auto warn_where = [&](const char* key, bool is_changed) {
    if (is_changed) section.no_effect(key, "stage 0 shards nothing");
  };
  warn_where("overlap_comm", config.overlap_comm != defaults.overlap_comm);
  warn_where("contiguous_gradients", config.contiguous_gradients != defaults.contiguous_gradients);
  warn_where("reduce_bucket_size", config.reduce_bucket_size != defaults.reduce_bucket_size);
  warn_where("allgather_bucket_size", config.allgather_bucket_size != defaults.allgather_bucket_size);
  warn_where("stage3_prefetch_bucket_size", config.stage3_prefetch_bucket_size != defaults.stage3_prefetch_bucket_size);
  warn_where("stage3_param_persistence_threshold",
             config.stage3_param_persistence_threshold != defaults.stage3_param_persistence_threshold);
  warn_where("stage3_max_live_parameters", config.stage3_max_live_parameters != defaults.stage3_max_live_parameters);
  warn_where("stage3_max_reuse_distance", config.stage3_max_reuse_distance != defaults.stage3_max_reuse_distance);
  warn_where("stage3_gather_16bit_weights_on_model_save", !config.stage3_gather_16bit_weights_on_model_save);
}

}  // namespace dsft::zero

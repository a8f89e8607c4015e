#include "base/error.h"
#include "recipe_config/deepspeed_import.h"
#include "recipe_config/deepspeed_keys.h"

namespace dsft::recipe_config {
namespace {

using config::Entry;

constexpr const char* kCpu = "cpu";

void import_offload(ImportedBlock& zero, const char* name) {
  const Entry* entry = zero.find(name);
  if (entry == nullptr || is_auto(entry->value)) return;
  ImportedBlock block = zero.inside(*entry);
  check_deepspeed_keys(block, zero.path_of(name), /*is_strict=*/true);
  const std::string section = concat("zero.", name, ".");
  const Entry* device = block.find("device");
  if (device) import_offload_device(block, *device, section + "device");
  block.take("pin_memory", section + "pin_memory");
}

/// Keys that DeepSpeed still takes in place of others.
void import_deprecated(ImportedBlock& zero) {
  const auto offload = [&](const char* name, const char* block) {
    const Entry* entry = zero.find(name);
    if (entry == nullptr) return;
    zero.warn(*entry, concat("is deprecated: write `", block, "`: {\"device\": \"cpu\"}"));
    if (!is_true(entry->value)) return;
    if (zero.find(block)) {
      zero.fault(*entry, concat("stands beside `", block, "`, which DeepSpeed refuses; remove it"));
    } else {
      zero.values().set(concat("zero.", block, ".device"), entry->key_position, zero.path_of(name),
                        config::make_string(kCpu));
    }
  };
  offload("cpu_offload", "offload_optimizer");
  offload("cpu_offload_param", "offload_param");
  if (const Entry* pin = zero.find("cpu_offload_use_pin_memory"))
    zero.no_effect(*pin, "it is deprecated; write `pin_memory` into offload_optimizer or offload_param");
  if (const Entry* gather = zero.find("stage3_gather_fp16_weights_on_model_save")) {
    zero.warn(*gather, "is deprecated: write `stage3_gather_16bit_weights_on_model_save`");
    zero.take("stage3_gather_fp16_weights_on_model_save", "zero.stage3_gather_16bit_weights_on_model_save");
  }
}

/// What DeepSpeed refuses at some stages, though it has no effect here.
void check_stage(ImportedBlock& zero) {
  const Entry* written = zero.values().find("zero.stage");
  const int64_t stage = written ? config::to_integer(written->value).value_or(0) : 0;
  const Entry* norm = zero.find("compute_grad_norm");
  if (norm && config::to_bool(unquoted(norm->value)) == false && stage != 1 && stage != 2)
    zero.fault(*norm, concat("is refused by DeepSpeed as false at stage ", stage, "; remove it"));
  const Entry* offload = zero.find("offload_optimizer");
  if (offload == nullptr || !offload->value.is_map() || stage == 3) return;
  ImportedBlock block = zero.inside(*offload);
  const Entry* ratio = block.find("ratio");
  if (ratio && config::to_number(unquoted(ratio->value)).value_or(1) < 1)
    block.fault(*ratio, concat("is refused by DeepSpeed below 1 at stage ", stage, "; remove it"));
}

}  // namespace

void import_offload_device(ImportedBlock& block, const Entry& device, const std::string& recipe_path) {
  if (device.value.text == "nvme") {
    block.fault(device, "`nvme` is not supported: nothing is swapped to a disk; write \"cpu\" or \"none\"");
  } else {
    block.take(device.key, recipe_path);
  }
}

void import_zero(ImportedBlock& top, RunSettings& run) {
  const Entry* entry = top.find("zero_optimization");
  if (entry == nullptr) return;
  if (const auto is_on = config::to_bool(entry->value)) {
    top.warn(*entry, "is deprecated as true or false: write {\"stage\": 1}");
    top.values().set("zero.stage", entry->key_position, "zero_optimization", config::make_plain(*is_on ? "1" : "0"));
    return;
  }
  ImportedBlock zero = top.inside(*entry);
  check_deepspeed_keys(zero, "zero_optimization", /*is_strict=*/true);
  const auto take_size = [&](const std::string& key, bool& is_auto_size) {
    const std::string path = "zero." + key;
    const Entry* size = zero.find(key);
    if (size && is_auto(size->value) && !zero.values().find(path)) is_auto_size = true;
    zero.take(key, path);
  };
  for (const char* key : {"stage", "overlap_comm", "contiguous_gradients", "allgather_bucket_size"})
    zero.take(key, concat("zero.", key));
  take_size("reduce_bucket_size", run.has_auto_reduce_bucket_size);
  take_size("stage3_prefetch_bucket_size", run.has_auto_prefetch_bucket_size);
  take_size("stage3_param_persistence_threshold", run.has_auto_persistence_threshold);
  for (const char* key : {"prefetch_bucket_size", "param_persistence_threshold"})
    zero.take(key, concat("zero.stage3_", key));
  for (const char* key : {"max_live_parameters", "max_reuse_distance", "gather_16bit_weights_on_model_save"}) {
    zero.take(concat("stage3_", key), concat("zero.stage3_", key));
    zero.take(key, concat("zero.stage3_", key));
  }
  import_offload(zero, "offload_optimizer");
  import_offload(zero, "offload_param");
  import_deprecated(zero);
  check_stage(zero);
}

}  // namespace dsft::recipe_config

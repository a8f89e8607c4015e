#include "spec/model_config.h"

#include <algorithm>
#include <filesystem>

#include "config/fields.h"
#include "config/section.h"

namespace dsft::spec {

void describe_fields(config::Fields& fields, ModelConfig& config) {
  fields.add("path", config.path, "Model directory, or a hub id found in the local Hugging Face cache").is_required =
      true;
  fields.add("revision", config.revision,
             "Branch or commit in the cache; empty: refs/main; without effect on a folder");
  fields.add("dtype", config.dtype, "Type of weights and arithmetic; null: bf16 on CUDA, fp32 on CPU");
  fields.add("attn_implementation", config.attn_implementation,
             "auto: the attention of the device; transformers' names (sdpa, eager, flash_attention_2, "
             "flash_attention_3, flex_attention) are read and mean the same");
  fields.later("load_in_4bit", "4-bit weights", {"false"});
  fields.later("load_in_8bit", "4-bit weights", {"false"});
  fields.later("bnb_4bit_quant_type", "4-bit weights");
  fields.later("bnb_4bit_use_double_quant", "4-bit weights", {"false"});
  fields.later("bnb_4bit_compute_dtype", "4-bit weights");
  fields.later("quantization_config", "4-bit weights");
  fields.later("mxfp4", "the gpt-oss family");
  fields.refused("trust_remote_code", "dsft runs no code of a checkpoint", {"false"});
  fields.no_effect("device_map", "`device` at the top of the recipe says where to compute");
  fields.no_effect("low_cpu_mem_usage", "each weight is read once, straight to its place");
  fields.no_effect("use_safetensors", "safetensors is the only format");
  fields.no_effect("use_cache", "training keeps no cache, generation always does");
}

void validate(const ModelConfig& config, config::Section& section) {
  std::error_code unreachable;
  if (!config.revision.empty() && std::filesystem::is_directory(config.path, unreachable))
    section.no_effect("revision", "model.path is a folder, and a revision chooses among those of the cache");
  const std::string& name = config.attn_implementation;
  if (name == "auto") return;
  if (std::find(kPeersAttention.begin(), kPeersAttention.end(), name) != kPeersAttention.end()) {
    section.no_effect("attn_implementation", "each device has one attention, and auto takes it");
  } else {
    section.fault("attn_implementation", "needs auto or one of transformers' names, not `" + name + "`");
  }
}

}  // namespace dsft::spec

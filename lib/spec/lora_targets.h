#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lora/lora_config.h"
#include "spec/model_spec.h"
#include "spec/pattern.h"

namespace dsft::spec {

/// A Linear module that LoRA adapts.
struct LoraTarget {
  std::string module;  ///< "model.layers.0.self_attn.q_proj"
  int64_t r = 0;
  double lora_alpha = 0;
  double scale = 0;  ///< lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora
  int64_t in_features = 0;
  int64_t out_features = 0;
};

/// Whether a name of a list (target_modules, exclude_modules) means this module: its whole path, or the end of it after
/// a dot.
bool is_named_by(const std::string& path, const std::string& name);

/// The expression that a key of rank_pattern or alpha_pattern stands for; it is matched from the start of a path.
Pattern path_end_pattern(const std::string& key, const std::string& where);

/// The Linear modules that the settings choose, in model order, matched on names exactly as PEFT does
/// (tuners_utils.check_target_module_exists, get_pattern_key): exclude_modules, then modules_to_save, then
/// target_modules, then layers. Names that match nothing beside others that match are passed over, as PEFT does
/// (check_lora_names names them). Throws kUsage where nothing matches (with what exists), where an embedding or another
/// module without a weight matrix is chosen, and for a faulty expression.
std::vector<LoraTarget> match_lora_targets(const ModelSpec& spec, const lora::LoraConfig& config);

/// The modules that modules_to_save names (PEFT: every module whose path ends in the name), in model order. Throws
/// kUsage where a name matches nothing.
std::vector<std::string> match_modules_to_save(const ModelSpec& spec, const lora::LoraConfig& config);

/// Paths of all modules of a model of this spec ("model", "model.layers.0.mlp", ..., "lm_head"), in model order.
std::vector<std::string> module_names(const ModelSpec& spec);

}  // namespace dsft::spec

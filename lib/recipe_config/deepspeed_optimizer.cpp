#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "recipe_config/deepspeed_import.h"
#include "recipe_config/deepspeed_keys.h"

namespace dsft::recipe_config {
namespace {

using config::Entry;

bool is_adam(std::string type) {
  std::transform(type.begin(), type.end(), type.begin(), [](unsigned char c) { return std::tolower(c); });
  return type == "adam" || type == "adamw";
}

void import_betas(ImportedBlock& params) {
  const Entry* betas = params.find("betas");
  if (betas == nullptr || is_auto(betas->value)) return;
  if (betas->value.items.size() != 2) {
    params.fault(*betas, concat("needs a list of two numbers, not ", value_text(betas->value)));
    return;
  }
  const char* const kPaths[] = {"training.adam_beta1", "training.adam_beta2"};
  for (size_t i = 0; i < 2; ++i) {
    params.values().set(kPaths[i], betas->key_position, params.path_of("betas"), unquoted(betas->value.items[i]));
  }
}

/// Switches of Adam's that would compute something else.
void check_switch(ImportedBlock& params, const char* name, bool is_on_here, const char* what) {
  const Entry* entry = params.find(name);
  if (entry && config::to_bool(unquoted(entry->value)) != is_on_here)
    params.fault(*entry, concat("is not supported with ", value_text(entry->value), ": ", what));
}

}  // namespace

void import_optimizer(ImportedBlock& top) {
  const Entry* entry = top.find("optimizer");
  if (entry == nullptr) return;
  ImportedBlock block = top.inside(*entry);
  check_deepspeed_keys(block, "optimizer", /*is_strict=*/false);
  const Entry* type = block.find("type");
  if (type == nullptr) {
    if (entry->value.is_map())
      top.no_effect(*entry, "DeepSpeed ignores the block without a `type`; write \"type\": \"AdamW\"");
    return;
  }
  if (!is_adam(type->value.text)) {
    block.fault(*type, concat(value_text(type->value), " is not supported: the optimizer is AdamW; write \"AdamW\""));
    return;
  }
  const Entry* list = block.find("params");
  if (list == nullptr) return;
  ImportedBlock params = block.inside(*list);
  check_deepspeed_keys(params, "optimizer.params", /*is_strict=*/true);
  params.take("lr", "training.learning_rate");
  params.take("eps", "training.adam_epsilon");
  params.take("weight_decay", "training.weight_decay");
  import_betas(params);
  // "AdamW" decays as AdamW does whatever the switch says
  const bool is_plain_adam = type->value.text.size() == 4;
  if (is_plain_adam) check_switch(params, "adam_w_mode", true, "the optimizer is AdamW, whose decay is decoupled");
  check_switch(params, "bias_correction", true, "moments are always corrected");
  check_switch(params, "amsgrad", false, "AMSGrad is not built");
}

}  // namespace dsft::recipe_config

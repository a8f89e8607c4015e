#include "spec/adapter_inventory.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "spec/lora_targets.h"

namespace dsft::spec {

namespace {

using Kind = AdapterTensor::Kind;

constexpr const char* kPrefix = "base_model.model.";

std::string module_of(const std::string& tensor) {
  return tensor.substr(0, tensor.rfind('.'));
}

/// The model's tensors, the head's too where it is tied: modules_to_save may train it on its own.
std::vector<TensorSpec> tensors_with_head(const ModelSpec& spec) {
  std::vector<TensorSpec> tensors = tensor_inventory(spec);
  if (spec.tie_word_embeddings) tensors.push_back({"lm_head.weight", {spec.vocab_size, spec.hidden_size}, true});
  return tensors;
}

/// PEFT's save_pretrained adds the base's weight of an adapted output embedding, which it never trains:
/// "base_model.model.lm_head.base_layer.weight" beside "...lm_head.lora_B.weight".
bool is_frozen_copy(const std::string& name, const std::vector<AdapterTensor>& inventory,
                    const io::SafetensorsSet& weights) {
  constexpr std::string_view kSuffix = ".base_layer.weight";
  if (!name.ends_with(kSuffix)) return false;
  const std::string module = name.substr(0, name.size() - kSuffix.size());
  int64_t rows = -1, columns = -1;
  for (const AdapterTensor& tensor : inventory) {
    if (tensor.file_name == module + ".lora_B.weight") rows = tensor.shape[0];
    if (tensor.file_name == module + ".lora_A.weight") columns = tensor.shape[1];
  }
  return weights.find(name)->shape == std::vector<int64_t>{rows, columns};
}

}  // namespace

std::vector<AdapterTensor> adapter_inventory(const ModelSpec& spec, const lora::LoraConfig& config) {
  std::vector<AdapterTensor> inventory;
  std::set<std::string> adapted;
  for (const LoraTarget& target : match_lora_targets(spec, config)) {
    adapted.insert(target.module);
    inventory.push_back(
        {Kind::kLoraA, kPrefix + target.module + ".lora_A.weight", target.module, {target.r, target.in_features}});
    inventory.push_back(
        {Kind::kLoraB, kPrefix + target.module + ".lora_B.weight", target.module, {target.out_features, target.r}});
  }
  const std::vector<std::string> saved_modules = match_modules_to_save(spec, config);
  for (const TensorSpec& tensor : tensors_with_head(spec)) {
    const bool is_saved = std::any_of(saved_modules.begin(), saved_modules.end(),
                                      [&](const std::string& module) { return tensor.name.starts_with(module + "."); });
    if (is_saved) {
      inventory.push_back({Kind::kSaved, kPrefix + tensor.name, tensor.name, tensor.shape});
    } else if (tensor.name.ends_with(".bias") && config.bias != lora::Bias::kNone) {
      const std::string module = module_of(tensor.name);
      const bool is_adapted = adapted.contains(module);
      if (!is_adapted && config.bias == lora::Bias::kLoraOnly) continue;
      inventory.push_back(
          {Kind::kBias, kPrefix + module + (is_adapted ? ".base_layer.bias" : ".bias"), tensor.name, tensor.shape});
    }
  }
  return inventory;
}

std::vector<std::string> check_adapter(const std::vector<AdapterTensor>& inventory, const io::SafetensorsSet& weights) {
  std::vector<std::string> faults;
  std::set<std::string> expected;
  for (const AdapterTensor& tensor : inventory) {
    expected.insert(tensor.file_name);
    const io::TensorInfo* info = weights.find(tensor.file_name);
    if (info == nullptr) {
      faults.push_back(concat("missing: ", tensor.file_name, " ", io::shape_text(tensor.shape)));
    } else if (info->shape != tensor.shape) {
      faults.push_back(concat("wrong shape: ", tensor.file_name, " is ", io::shape_text(info->shape),
                              ", but adapter_config.json and the model ask for ", io::shape_text(tensor.shape)));
    } else if (info->dtype != io::DType::kF32 && info->dtype != io::DType::kBF16 && info->dtype != io::DType::kF16) {
      faults.push_back(concat("unreadable type: ", tensor.file_name, " is ", io::dtype_name(info->dtype),
                              "; dsft reads F32, BF16 and F16"));
    }
  }
  for (const std::string& name : weights.names()) {
    if (!expected.contains(name) && !is_frozen_copy(name, inventory, weights))
      faults.push_back(concat("unexpected: ", name, " ", io::shape_text(weights.find(name)->shape)));
  }
  return faults;
}

}  // namespace dsft::spec

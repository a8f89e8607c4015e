#include "spec/parameter_counts.h"

#include "spec/adapter_inventory.h"

namespace dsft::spec {

namespace {

int64_t num_elements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

}  // namespace

ParameterCounts count_parameters(const ModelSpec& spec, const lora::LoraConfig* lora) {
  ParameterCounts counts;
  for (const TensorSpec& tensor : tensor_inventory(spec)) counts.model += num_elements(tensor.shape);
  counts.total = counts.model;
  if (lora == nullptr) {
    counts.trainable = counts.model;
    return counts;
  }
  for (const AdapterTensor& tensor : adapter_inventory(spec, *lora)) {
    counts.trainable += num_elements(tensor.shape);
    // PEFT trains the model's own biases, but copies of saved modules
    if (tensor.kind != AdapterTensor::Kind::kBias) counts.total += num_elements(tensor.shape);
  }
  return counts;
}

}  // namespace dsft::spec

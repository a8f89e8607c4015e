#include "estimate/parameter_blocks.h"

#include <algorithm>
#include <set>
#include <string>

#include "spec/adapter_inventory.h"

namespace dsft::estimate {
namespace {

constexpr int64_t kAlignment = 16;  // zero::ShardPlan's

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

int64_t num_elements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

size_t block_of(const std::string& name, size_t num_blocks) {
  constexpr std::string_view kLayers = "model.layers.";
  if (name.starts_with("model.embed_tokens.")) return 0;
  if (name.starts_with(kLayers)) return std::stoul(name.substr(kLayers.size())) + 1;
  return num_blocks - 1;
}

}  // namespace

std::vector<std::string> trained_tensors(const Workload& workload) {
  std::vector<std::string> names;
  if (!workload.lora) {
    for (const spec::TensorSpec& tensor : tensor_inventory(workload.model)) names.push_back(tensor.name);
    return names;
  }
  for (const spec::AdapterTensor& tensor : adapter_inventory(workload.model, *workload.lora)) {
    if (tensor.kind == spec::AdapterTensor::Kind::kSaved || tensor.kind == spec::AdapterTensor::Kind::kBias)
      names.push_back(tensor.target);
  }
  return names;
}

std::vector<BlockParameters> parameter_blocks(const Workload& workload) {
  std::vector<BlockParameters> blocks(static_cast<size_t>(workload.model.num_hidden_layers) + 2);
  const std::vector<std::string> names = trained_tensors(workload);
  const std::set<std::string> trained(names.begin(), names.end());
  std::set<std::string> own;
  for (const spec::TensorSpec& tensor : tensor_inventory(workload.model)) {
    BlockParameters& block = blocks[block_of(tensor.name, blocks.size())];
    own.insert(tensor.name);
    block.model += num_elements(tensor.shape);
    if (trained.contains(tensor.name)) block.trained += round_up(num_elements(tensor.shape), kAlignment);
  }
  if (!workload.lora) return blocks;
  for (const spec::AdapterTensor& tensor : adapter_inventory(workload.model, *workload.lora)) {
    BlockParameters& block = blocks[block_of(tensor.target + ".", blocks.size())];
    const bool is_lora =
        tensor.kind == spec::AdapterTensor::Kind::kLoraA || tensor.kind == spec::AdapterTensor::Kind::kLoraB;
    if (is_lora) block.lora += round_up(num_elements(tensor.shape), kAlignment);
    if (is_lora || own.contains(tensor.target)) continue;
    // a tied head that is trained alone has a weight of its own
    block.model += num_elements(tensor.shape);
    block.trained += round_up(num_elements(tensor.shape), kAlignment);
  }
  return blocks;
}

int64_t slice_of(int64_t elements, int64_t num_ranks) {
  return round_up(elements, kAlignment * num_ranks) / num_ranks;
}

}  // namespace dsft::estimate

#include "checkpoint/adapter.h"

#include <torch/types.h>

#include "base/error.h"
#include "comm/single_process_communicator.h"
#include "io/file.h"
#include "spec/adapter_inventory.h"
#include "spec/lora_targets.h"

namespace dsft::checkpoint {

namespace {

using Kind = spec::AdapterTensor::Kind;

/// The tensor of an adapter that an inventory entry names, or an undefined one.
at::Tensor find_tensor(const AdapterWeights& weights, const spec::AdapterTensor& entry) {
  const auto in = [&](const std::map<std::string, at::Tensor>& map) {
    const auto at = map.find(entry.target);
    return at == map.end() ? at::Tensor() : at->second;
  };
  if (entry.kind == Kind::kSaved) return in(weights.modules_to_save);
  if (entry.kind == Kind::kBias) return in(weights.biases);
  const auto at = weights.modules.find(entry.target);
  if (at == weights.modules.end()) return {};
  return entry.kind == Kind::kLoraA ? at->second.a : at->second.b;
}

size_t count_tensors(const AdapterWeights& weights) {
  return 2 * weights.modules.size() + weights.modules_to_save.size() + weights.biases.size();
}

}  // namespace

void save_adapter(const std::filesystem::path& directory, const spec::ModelSpec& spec,
                  const spec::AdapterSettings& settings, const AdapterWeights& weights, WritingRanks& ranks) {
  const std::vector<spec::AdapterTensor> inventory = spec::adapter_inventory(spec, settings.lora);
  DSFT_CHECK(inventory.size() == count_tensors(weights), "the adapter has ", count_tensors(weights),
             " tensors, but its settings make ", inventory.size());
  NamedTensors tensors;
  for (const spec::AdapterTensor& entry : inventory) {
    const at::Tensor tensor = find_tensor(weights, entry);
    DSFT_CHECK(tensor.defined() && tensor.sizes().vec() == entry.shape, "the adapter lacks ", entry.file_name);
    tensors.emplace_back(entry.file_name, tensor);
  }
  std::optional<io::SafetensorsWriter> writer;  // of the rank that writes
  ranks.write([&] {
    io::write_text_file(directory / "adapter_config.json", spec::format_adapter_settings(settings, spec));
    writer.emplace(directory / "adapter_model.safetensors", describe_tensors(tensors), kWeightsMetadata);
  });
  ranks.write_each(tensors, [&](const at::Tensor& tensor) { write_tensor(*writer, tensor, tensor.scalar_type()); });
  ranks.write([&] { writer->finish(); });
}

void save_adapter(const std::filesystem::path& directory, const spec::ModelSpec& spec,
                  const spec::AdapterSettings& settings, const AdapterWeights& weights) {
  const auto alone = comm::make_single_process_communicator();
  WritingRanks ranks(*alone, /*shards=*/nullptr);
  save_adapter(directory, spec, settings, weights, ranks);
}

Adapter load_adapter(const std::filesystem::path& directory, const spec::ModelSpec& spec) {
  Adapter adapter;
  adapter.settings = spec::read_adapter_settings(directory);
  const io::SafetensorsSet set = io::SafetensorsSet::open(directory, "adapter_model");
  std::vector<spec::AdapterTensor> inventory;
  try {
    inventory = spec::adapter_inventory(spec, adapter.settings.lora);
    for (const spec::LoraTarget& target : spec::match_lora_targets(spec, adapter.settings.lora)) {
      adapter.weights.modules[target.module] = {
          .a = {}, .b = {}, .r = target.r, .lora_alpha = target.lora_alpha, .scale = target.scale};
    }
  } catch (const Error& error) {
    // the settings come from a file here, not from the recipe
    fail(ErrorKind::kCheckpoint, (directory / "adapter_config.json").string(),
         " does not fit the model: ", error.message());
  }
  const std::vector<std::string> faults = spec::check_adapter(inventory, set);
  if (!faults.empty()) {
    std::string text = concat("The adapter in ", directory.string(), " does not fit the model (", spec.model_type,
                              "), ", faults.size(), " faults:");
    for (const std::string& fault : faults) text += "\n  - " + fault;
    fail(ErrorKind::kCheckpoint, text);
  }
  for (const spec::AdapterTensor& entry : inventory) {
    const at::Tensor tensor = read_tensor(set, *set.find(entry.file_name)).to(at::kFloat);
    if (entry.kind == Kind::kSaved) adapter.weights.modules_to_save[entry.target] = tensor;
    if (entry.kind == Kind::kBias) adapter.weights.biases[entry.target] = tensor;
    if (entry.kind == Kind::kLoraA) adapter.weights.modules[entry.target].a = tensor;
    if (entry.kind == Kind::kLoraB) adapter.weights.modules[entry.target].b = tensor;
  }
  return adapter;
}

}  // namespace dsft::checkpoint

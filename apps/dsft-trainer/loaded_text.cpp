#include "dsft-trainer/loaded_text.h"

#include "device/device.h"

namespace dsft::apps {

LoadedText load_text_model(const std::string& model, const std::string& adapter, const ComputeOptions& compute,
                           const Logger& logger) {
  const at::Device device = device::choose_device(compute.device, /*local_rank=*/0);
  recipe::LoadedModel loaded = recipe::load_model({.path = model,
                                                   .adapter = adapter.empty() ? std::nullopt : std::optional(adapter),
                                                   .dtype = recipe::torch_dtype(compute.dtype, device),
                                                   .device = device},
                                                  logger);
  spec::GenerationDefaults generation = spec::read_generation_config(loaded.folders.model, loaded.model->spec());
  return {std::move(loaded.model), data::TextAssets::load(loaded.folders, ""), std::move(generation)};
}

}  // namespace dsft::apps

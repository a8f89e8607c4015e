#include "dsft-trainer/loaded_text.h"

#include "device/device.h"

namespace dsft::apps {

LoadedText load_text_model(const std::string& model, const std::string& adapter, const ComputeOptions& compute) {
  const at::Device device = device::choose_device(compute.device, /*local_rank=*/0);
  recipe::LoadedModel loaded =
      recipe::load_model(model, /*revision=*/"", adapter.empty() ? std::nullopt : std::optional(adapter),
                         recipe::torch_dtype(compute.dtype, device), device);
  spec::GenerationDefaults generation = spec::read_generation_config(loaded.directory, loaded.model->spec());
  std::vector<int32_t> stop_ids = generation.eos_token_ids;
  if (loaded.tokenizer.eos_id()) stop_ids.push_back(*loaded.tokenizer.eos_id());
  data::TextAssets assets{std::move(loaded.tokenizer),
                          text::ChatTemplate::load(loaded.directory, {}, /*has_tools=*/false),
                          text::ChatTemplate::load(loaded.directory, {}, /*has_tools=*/true), std::move(stop_ids)};
  return {std::move(loaded.model), std::move(assets), std::move(generation)};
}

}  // namespace dsft::apps

#include "dsft-trainer/loaded_text.h"

#include "base/error.h"
#include "checkpoint/model_files.h"
#include "device/device.h"

namespace dsft::apps {

LoadedText load_text_model(const std::string& model, const std::string& adapter, const ComputeOptions& compute) {
  const at::Device device = device::choose_device(compute.device, /*local_rank=*/0);
  recipe::LoadedModel loaded =
      recipe::load_model(model, /*revision=*/"", adapter.empty() ? std::nullopt : std::optional(adapter),
                         recipe::torch_dtype(compute.dtype, device), device);
  const std::filesystem::path text =
      adapter.empty() ? loaded.directory : checkpoint::text_directory_of(loaded.directory, adapter);
  if (text != loaded.directory) {
    loaded.tokenizer = text::Tokenizer::load(text);
    const int64_t num_rows = loaded.model->spec().vocab_size;
    if (loaded.tokenizer.num_ids() > num_rows)
      fail(ErrorKind::kCheckpoint, "the tokenizer in ", text.string(), " has ", loaded.tokenizer.num_ids(),
           " ids, but the embedding of ", model, " has ", num_rows,
           " rows (vocab_size): the adapter was trained on a model with more tokens");
  }
  spec::GenerationDefaults generation = spec::read_generation_config(loaded.directory, loaded.model->spec());
  std::vector<int32_t> stop_ids = generation.eos_token_ids;
  if (loaded.tokenizer.eos_id()) stop_ids.push_back(*loaded.tokenizer.eos_id());
  data::TextAssets assets{std::move(loaded.tokenizer), text::ChatTemplate::load(text, {}, /*has_tools=*/false),
                          text::ChatTemplate::load(text, {}, /*has_tools=*/true), std::move(stop_ids)};
  return {std::move(loaded.model), std::move(assets), std::move(generation)};
}

}  // namespace dsft::apps

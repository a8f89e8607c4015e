#include "recipe/build_model.h"

#include <future>

#include "base/error.h"
#include "checkpoint/load_weights.h"
#include "lora/adapters.h"
#include "nn/parameter_memory.h"
#include "spec/lora_targets.h"
#include "spec/weight_check.h"
#include "text/tokenizer.h"

namespace dsft::recipe {
namespace {

nn::LoraAdapter adapter_of(const lora::NamedLinear& item) {
  return *item.linear->adapter();
}

// Loads weights while another thread makes what training on such batches takes time to make; null: nothing.
void prepare_beside(const model::CausalLm& model, const Batch* batch, const std::function<void()>& load) {
  std::future<void> preparation;
  if (batch) preparation = std::async(std::launch::async, [&] { model.prepare(*batch); });
  load();
  if (preparation.valid()) preparation.get();
}

}  // namespace

at::ScalarType torch_dtype(std::optional<spec::ComputeDtype> dtype, at::Device device) {
  switch (dtype.value_or(device.is_cpu() ? spec::ComputeDtype::kFp32 : spec::ComputeDtype::kBf16)) {
    case spec::ComputeDtype::kBf16:
      return at::kBFloat16;
    case spec::ComputeDtype::kFp16:
      return at::kHalf;
    case spec::ComputeDtype::kFp32:
      return at::kFloat;
  }
  DSFT_CHECK(false, "dtype");
}

LoadedModel load_base_model(const ModelRequest& request, const Logger& logger, const Batch* batch) {
  const std::filesystem::path directory = spec::find_model(request.path, request.revision);
  const spec::ModelSpec model_spec = spec::read_model_spec(directory);
  for (const std::string& warning : model_spec.warnings)
    logger.warn((directory / "config.json").string(), ": ", warning);
  const spec::TextFolders folders = spec::find_text_folders(directory, request.adapter);
  const io::SafetensorsSet weights = io::SafetensorsSet::open(directory);
  const int64_t num_ids = text::Tokenizer::load(folders.text).num_ids();
  const bool is_own = folders.text == directory;
  spec::require_weights(model_spec, weights, directory, is_own ? std::optional(num_ids) : std::nullopt);
  if (num_ids > model_spec.vocab_size)
    fail(ErrorKind::kCheckpoint, "the tokenizer in ", folders.text.string(), " has ", num_ids,
         " ids, but the embedding of ", request.path, " has ", model_spec.vocab_size,
         " rows (vocab_size): the adapter was trained on a model with more tokens");
  auto model = model::build_causal_lm(model_spec, request.dtype, request.device, request.memory);
  if (request.memory == model::ParameterMemory::kNow)
    prepare_beside(*model, batch,
                   [&] { checkpoint::load_weights(model_spec, weights, model::named_parameters_of(*model)); });
  return {std::move(model), folders};
}

void load_slices(const LoadedModel& loaded, const zero::ParameterShards& shards, const Batch* batch) {
  const spec::ModelSpec& model_spec = loaded.model->spec();
  const io::SafetensorsSet weights = io::SafetensorsSet::open(loaded.folders.model);
  checkpoint::require_tied_head(model_spec, weights);
  auto slices = checkpoint::own_slices(model::named_parameters_of(*loaded.model), &shards);
  for (checkpoint::TensorSlice& slice : slices)  // a head that was untied begins as the embedding
    if (model_spec.tie_word_embeddings && slice.name == "lm_head.weight") slice.name = "model.embed_tokens.weight";
  prepare_beside(*loaded.model, batch,
                 [&] { checkpoint::load_slices(model_spec, checkpoint::StoredWeights::of(weights), slices); });
}

LoadedModel load_model(const ModelRequest& request, const Logger& logger) {
  LoadedModel loaded = load_base_model(request, logger);
  if (request.adapter) {
    lora::LoraConfig config;
    config.adapter = request.adapter;
    const spec::AdapterSettings settings = attach_lora(*loaded.model, config, request.path, /*seed=*/0);
    for (const std::string& warning : settings.warnings) logger.warn(warning);
  }
  for (at::Tensor& parameter : loaded.model->parameters()) parameter.requires_grad_(false);
  return loaded;
}

spec::AdapterSettings attach_lora(model::CausalLm& model, const lora::LoraConfig& config, const std::string& base_model,
                                  uint64_t seed) {
  std::optional<checkpoint::Adapter> continued;
  spec::AdapterSettings settings;
  if (config.adapter) {
    continued = checkpoint::load_adapter(*config.adapter, model.spec());
    settings = continued->settings;
  } else {
    settings.lora = config;
  }
  settings.base_model_name_or_path = base_model;
  const auto targets = spec::match_lora_targets(model.spec(), settings.lora);
  const auto modules_to_save = spec::match_modules_to_save(model.spec(), settings.lora);
  lora::attach(model, targets, modules_to_save, settings.lora, seed);
  if (continued) fill_adapter(model, continued->weights);
  return settings;
}

checkpoint::AdapterWeights collect_adapter(const model::CausalLm& model, const spec::AdapterSettings& settings) {
  checkpoint::AdapterWeights weights;
  for (const spec::LoraTarget& target : spec::match_lora_targets(model.spec(), settings.lora)) {
    checkpoint::AdapterModule& module = weights.modules[target.module];
    module.r = target.r;
    module.lora_alpha = target.lora_alpha;
    module.scale = target.scale;
  }
  for (const lora::NamedLinear& item : lora::adapted_modules(model)) {
    checkpoint::AdapterModule& module = weights.modules.at(item.name);
    module.a = adapter_of(item).a.detach();
    module.b = adapter_of(item).b.detach();
  }
  for (const lora::TrainableTensor& trainable : lora::trainable_tensors(model)) {
    if (trainable.is_adapter) continue;
    bool is_saved_module = false;
    for (const std::string& module : spec::match_modules_to_save(model.spec(), settings.lora))
      is_saved_module = is_saved_module || trainable.name.starts_with(module + ".");
    (is_saved_module ? weights.modules_to_save : weights.biases)[trainable.name] = trainable.tensor.detach();
  }
  return weights;
}

void fill_adapter(model::CausalLm& model, const checkpoint::AdapterWeights& weights,
                  const zero::ParameterShards* shards) {
  torch::NoGradGuard no_grad;
  size_t num_filled = 0;
  for (const lora::NamedLinear& item : lora::adapted_modules(model)) {
    const checkpoint::AdapterModule& module = weights.modules.at(item.name);
    item.linear->adapter()->a.copy_(module.a);
    item.linear->adapter()->b.copy_(module.b);
    ++num_filled;
  }
  for (const checkpoint::TensorSlice& slice : checkpoint::own_slices(model::named_parameters_of(model), shards)) {
    for (const auto* group : {&weights.modules_to_save, &weights.biases})
      if (const auto found = group->find(slice.name); found != group->end()) {
        if (nn::has_memory(slice.values))
          slice.values.copy_(found->second.reshape(-1).narrow(0, slice.first, slice.values.numel()));
        ++num_filled;
      }
  }
  const size_t num_given = weights.modules.size() + weights.modules_to_save.size() + weights.biases.size();
  DSFT_CHECK(num_filled == num_given, "of ", num_given, " parts of the adapter ", num_filled,
             " have a place in the model");
}

}  // namespace dsft::recipe

// A model that ranks share from its first moment on: no rank ever has all of it.
#include <map>

#include "catch_amalgamated.hpp"
#include "checkpoint/init_model.h"
#include "checkpoint/tensor_file.h"
#include "comm/thread_ranks.h"
#include "lora/adapters.h"
#include "nn/parameter_memory.h"
#include "recipe/build_model.h"
#include "support/counted_memory.h"
#include "support/temp_dir.h"
#include "train/sharding_hooks.h"

using namespace dsft;
namespace fs = std::filesystem;

namespace {

const Logger kNoWords(0, true);

// A tied model of many layers, so that all of it is much more than a block.
fs::path make_deep_model(const test::TempDir& dir) {
  dir.write(
      "config.json",
      R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 1024, "hidden_size": 32, "intermediate_size": 128,
    "num_hidden_layers": 40, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "tie_word_embeddings": true, "rope_theta": 10000.0, "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2})");
  checkpoint::init_model({.config = dir / "config.json",
                          .tokenizer = fs::path(DSFT_SOURCE_DIR) / "test/fixtures/data/tokenizer",
                          .output = dir / "model",
                          .num_token_ids = 1024},
                         kNoWords);
  return dir / "model";
}

lora::LoraConfig saving(std::vector<std::string> modules) {
  lora::LoraConfig config;
  config.r = 2;
  config.target_modules = {.kind = lora::TargetModules::Kind::kNames, .names = {"q_proj"}, .regex = ""};
  config.modules_to_save = std::move(modules);
  return config;
}

/// A rank's model at stage 3, as a recipe builds it.
struct SharedModel {
  recipe::LoadedModel loaded;
  std::unique_ptr<zero::ShardedOptimizer> optimizer;
  std::unique_ptr<zero::ParameterShards> shards;

  SharedModel(const fs::path& path, const std::optional<lora::LoraConfig>& lora, comm::Communicator& communicator)
      : loaded(recipe::load_base_model({.path = path.string(), .memory = model::ParameterMemory::kLater}, kNoWords)) {
    if (lora)
      recipe::attach_lora(*loaded.model, *lora, path.string(), 7);
    else
      for (at::Tensor& parameter : loaded.model->parameters()) parameter.requires_grad_(true);
    std::vector<zero::TrainableParameter> parameters;
    for (const auto& item : lora::trainable_tensors(*loaded.model))
      parameters.push_back({item.name, item.tensor, true, item.is_adapter, loaded.model->block_of(item.name)});
    optimizer = std::make_unique<zero::ShardedOptimizer>(parameters, zero::OptimizerOptions{.stage = 3}, communicator);
    shards = train::shard_parameters(*loaded.model, *optimizer, communicator);
    recipe::load_slices(loaded, *shards);
    optimizer->take_values();
  }
};

}  // namespace

TEST_CASE("Ranks that share a model load its values, and none ever has all of them", "[recipe]") {
  constexpr int kRanks = 4;
  const auto lora = GENERATE(as<std::optional<lora::LoraConfig>>(), std::nullopt, saving({}), saving({"lm_head"}));
  test::TempDir dir;
  const fs::path path = make_deep_model(dir);
  std::map<std::string, at::Tensor> expected;
  int64_t model_bytes = 0;
  const auto set = io::SafetensorsSet::open(path);
  for (const std::string& name : set.names()) {
    expected[name] = checkpoint::read_tensor(set, *set.find(name));
    model_bytes += static_cast<int64_t>(expected[name].nbytes());
  }
  expected["lm_head.weight"] = expected["model.embed_tokens.weight"];
  const int64_t embedding_bytes = static_cast<int64_t>(expected["lm_head.weight"].nbytes());

  test::CountedMemory memory;
  comm::run_thread_ranks(kRanks, [&](comm::Communicator& communicator) {
    const SharedModel shared(path, lora, communicator);
    communicator.barrier();
    const zero::WholeParameters whole(shared.shards.get());
    for (const auto& [name, parameter] : model::named_parameters_of(*shared.loaded.model))
      if (!at::equal(parameter.detach(), expected.at(name))) throw std::runtime_error(name + " has other values");
  });

  memory.restart();
  const int64_t before = memory.live_bytes();
  comm::run_thread_ranks(kRanks, [&](comm::Communicator& communicator) {
    const SharedModel shared(path, lora, communicator);
    communicator.barrier();
  });
  // slices of all ranks, with gradients and two moments where all is trained; for each rank a block on its way, and
  // what is not shared. Whole models would be kRanks times the model.
  const int64_t of_optimizer = !lora ? 3 * model_bytes : lora->modules_to_save.empty() ? 0 : 4 * embedding_bytes;
  const int64_t on_the_way = kRanks * 2 * embedding_bytes, apart = kRanks * 160 * 1024;
  const int64_t peak = memory.peak_bytes() - before;
  CAPTURE(peak, model_bytes, of_optimizer, embedding_bytes);
  CHECK(peak >= model_bytes + of_optimizer);
  CHECK(peak <= model_bytes + of_optimizer + on_the_way + apart);
  CHECK(model_bytes + on_the_way + apart < 2 * model_bytes);  // else nothing would be shown
}

TEST_CASE("A model without memory becomes trainable, untied and sharded without a look at its values", "[recipe]") {
  test::TempDir dir;
  const fs::path path = make_deep_model(dir);
  const auto loaded =
      recipe::load_base_model({.path = path.string(), .memory = model::ParameterMemory::kLater}, kNoWords);
  recipe::attach_lora(*loaded.model, saving({"embed_tokens"}), path.string(), 7);
  CHECK_FALSE(loaded.model->has_tied_head());
  for (const auto& [name, parameter] : model::named_parameters_of(*loaded.model)) {
    INFO(name);
    CHECK_FALSE(nn::has_memory(parameter));
  }
}

// The keyword arguments of a Python script port by copying: none of them is unknown. Names:
// scripts/goldens/peer_fields.py.
#include <fstream>
#include <string>

#include "catch_amalgamated.hpp"
#include "recipe_config/recipe_config.h"
#include "support/fixtures.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;

namespace {

/// Faults and warnings of a recipe with this key.
std::string said_of(const std::string& key, const std::string& value) {
  const size_t dot = key.find('.');
  const auto reading =
      recipe_config::read_recipe_text("recipe: sft\noutput_dir: runs/a\nmodel: {path: m}\ndata: {train: [t.jsonl]}\n" +
                                          key.substr(0, dot) + ": {" + key.substr(dot + 1) + ": " + value + "}\n",
                                      "r.yaml");
  std::string all;
  for (const auto* list : {&reading.faults, &reading.warnings}) {
    for (const config::Fault& found : *list) all += to_string(found) + "\n";
  }
  return all;
}

}  // namespace

TEST_CASE("no argument of TrainingArguments, SFTConfig and LoraConfig is unknown", "[recipe_config]") {
  std::ifstream file(test::fixture_path("recipe_config/peer_fields.txt"));
  int num_names = 0;
  for (std::string key; std::getline(file, key);) {
    if (key.starts_with("#")) continue;
    ++num_names;
    INFO(key << ": " << said_of(key, "null"));
    CHECK_THAT(said_of(key, "null"), !ContainsSubstring("is unknown"));
  }
  CHECK(num_names > 150);
}

TEST_CASE("arguments of the peers that dsft does not have say what to write", "[recipe_config]") {
  CHECK(said_of("training.loss_type", "nll") == "");
  CHECK_THAT(said_of("training.loss_type", "dft"), ContainsSubstring("is not supported: the loss is the negative"));
  CHECK_THAT(said_of("training.train_sampling_strategy", "sequential"), ContainsSubstring("data.shuffle: false"));
  CHECK(said_of("training.train_sampling_strategy", "group_by_length") == "");
  CHECK_THAT(said_of("training.model_init_kwargs", "{torch_dtype: bfloat16}"), ContainsSubstring("section model"));
  CHECK_THAT(said_of("training.eos_token", "<|im_end|>"), ContainsSubstring("tokenizer_config.json"));
  CHECK_THAT(said_of("training.pad_token", "<pad>"), ContainsSubstring("has no effect: there is no padding"));
  CHECK_THAT(said_of("training.ddp_static_graph", "true"), ContainsSubstring("has no effect: ranks are joined"));
  CHECK_THAT(said_of("training.per_gpu_train_batch_size", "8"),
             ContainsSubstring("is transformers's spelling: write `training.per_device_train_batch_size`"));
  CHECK_THAT(said_of("training.dataset_num_proc", "8"), ContainsSubstring("write `data.num_workers`"));
  CHECK_THAT(said_of("lora.use_bdlora", "true"), ContainsSubstring("is not supported: BD-LoRA is not built"));
  CHECK_THAT(said_of("lora.kasa_config", "{beta: 1}"), ContainsSubstring("is not supported"));
  CHECK_THAT(said_of("lora.megatron_core", "megatron.core"), ContainsSubstring("has no effect"));
}

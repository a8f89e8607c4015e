// Adapters in a model with tied embeddings against PEFT: what it saved is loaded, and gives the logits that it gave.
#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "checkpoint/load_weights.h"
#include "checkpoint/merge_lora.h"
#include "io/json.h"
#include "lora/adapters.h"
#include "recipe/build_model.h"
#include "spec/parameter_counts.h"
#include "support/require_error.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"

using namespace dsft;
namespace fs = std::filesystem;

namespace {

const fs::path kFixtures = fs::path(DSFT_SOURCE_DIR) / "test/fixtures/checkpoint";
const Logger kQuiet(0, true);

std::shared_ptr<model::CausalLm> load_base(const fs::path& directory) {
  const spec::ModelSpec spec = spec::read_model_spec(directory);
  auto lm = model::build_causal_lm(spec, at::kFloat, at::kCPU);
  checkpoint::load_weights(spec, io::SafetensorsSet::open(directory), model::named_parameters_of(*lm));
  return lm;
}

lora::LoraConfig continued_from(const fs::path& adapter) {
  lora::LoraConfig config;
  config.adapter = adapter.string();
  return config;
}

lora::LoraConfig adapting(std::vector<std::string> targets, std::vector<std::string> saved) {
  lora::LoraConfig config;
  config.r = 2;
  config.target_modules = {.kind = lora::TargetModules::Kind::kNames, .names = std::move(targets), .regex = ""};
  config.modules_to_save = std::move(saved);
  return config;
}

/// Logits of the ids of scripts/goldens/checkpoint_adapters.py.
at::Tensor logits_of(model::CausalLm& lm) {
  torch::NoGradGuard no_grad;
  const Document document{{3, 11, 7, 19, 0, 5, 5, 14}, std::vector<int32_t>(8, -100), 0};
  const nn::BlockRunner runner;
  return lm.logits(lm.hidden_states(make_batch({document}, 0), runner, nullptr), runner);
}

double gap(const at::Tensor& actual, const at::Tensor& expected) {
  return (actual - expected).abs().max().item<double>();
}

const auto kCases = {"plain",           "bias_all",      "bias_lora_only", "saved_head",
                     "saved_embedding", "saved_both",    "target_head",    "target_head_saved_embedding",
                     "excluded_list",   "excluded_regex"};

}  // namespace

TEST_CASE("PEFT's adapters give PEFT's logits, in a model's slots and merged", "[recipe]") {
  const std::string name = GENERATE(from_range(std::vector<std::string>(kCases.begin(), kCases.end())));
  INFO(name);
  const at::Tensor expected = test::read_tensors(kFixtures / name / "logits.safetensors").at("logits");
  auto lm = load_base(kFixtures / "base");
  const auto settings = recipe::attach_lora(*lm, continued_from(kFixtures / name), "base", 0);
  CHECK(gap(logits_of(*lm), expected) < 1e-4);
  test::TempDir dir;
  checkpoint::merge_lora(
      {.base = kFixtures / "base", .adapter = kFixtures / name, .output = dir / "merged", .dtype = {}}, kQuiet);
  CHECK(gap(logits_of(*load_base(dir / "merged")), expected) < 1e-4);
}

TEST_CASE("What a model holds of an adapter is written as PEFT wrote it", "[recipe]") {
  const std::string name = GENERATE(from_range(std::vector<std::string>(kCases.begin(), kCases.end())));
  INFO(name);
  auto lm = load_base(kFixtures / "base");
  const auto settings = recipe::attach_lora(*lm, continued_from(kFixtures / name), "base", 0);
  test::TempDir dir;
  checkpoint::save_adapter(dir.path(), lm->spec(), settings, recipe::collect_adapter(*lm, settings));
  const auto expected = test::read_tensors(kFixtures / name / "adapter_model.safetensors");
  const auto actual = test::read_tensors(dir / "adapter_model.safetensors");
  REQUIRE(actual.size() == expected.size());
  for (const auto& [key, tensor] : expected) {
    INFO(key);
    CHECK(torch::equal(actual.at(key), tensor));
  }
}

TEST_CASE("Trainable and all parameters are counted as PEFT counts them, before and in the run", "[recipe]") {
  const std::string name = GENERATE(from_range(std::vector<std::string>(kCases.begin(), kCases.end())));
  INFO(name);
  const auto expected = io::read_ordered_json_file(kFixtures / "parameter_counts.json").at(name);
  auto lm = load_base(kFixtures / "base");
  const auto settings = recipe::attach_lora(*lm, continued_from(kFixtures / name), "base", 0);
  const spec::ParameterCounts counts = spec::count_parameters(lm->spec(), &settings.lora);
  CHECK(counts.trainable == expected.at("trainable").get<int64_t>());
  CHECK(counts.total == expected.at("total").get<int64_t>());
  int64_t num_trainable = 0;
  for (const auto& item : lora::trainable_tensors(*lm)) num_trainable += item.tensor.numel();
  CHECK(num_trainable == counts.trainable);
}

TEST_CASE("A new adapter leaves the logits as they are", "[recipe]") {
  const std::string base = GENERATE("llama_plain", "qwen3");  // untied and tied
  const auto config =
      GENERATE(adapting({"q_proj", "down_proj"}, {}), adapting({"lm_head"}, {}), adapting({"q_proj"}, {"lm_head"}),
               adapting({"q_proj"}, {"embed_tokens"}), adapting({"lm_head"}, {"embed_tokens"}),
               adapting({"q_proj"}, {"lm_head", "embed_tokens"}));
  const at::Tensor expected = logits_of(*test::load_tiny_model(base));
  auto lm = test::load_tiny_model(base);
  const auto settings = recipe::attach_lora(*lm, config, "base", 7);
  CHECK(torch::equal(logits_of(*lm), expected));
  // and its files can be written and read back
  test::TempDir dir;
  checkpoint::save_adapter(dir.path(), lm->spec(), settings, recipe::collect_adapter(*lm, settings));
  auto again = test::load_tiny_model(base);
  recipe::attach_lora(*again, continued_from(dir.path()), "base", 0);
  CHECK(torch::equal(logits_of(*again), expected));
}

TEST_CASE("Training one side of a tied pair leaves the other alone", "[recipe]") {
  const std::string saved = GENERATE("lm_head", "embed_tokens");
  auto lm = test::load_tiny_model("qwen3");
  REQUIRE(lm->has_tied_head());
  recipe::attach_lora(*lm, adapting({"q_proj"}, {saved}), "base", 7);
  REQUIRE(!lm->has_tied_head());
  auto parameters = lm->named_parameters();
  const at::Tensor head = parameters["lm_head.weight"], embedding = parameters["model.embed_tokens.weight"];
  CHECK(torch::equal(head, embedding));
  CHECK(head.data_ptr() != embedding.data_ptr());
  CHECK(head.requires_grad() == (saved == "lm_head"));
  CHECK(embedding.requires_grad() == (saved == "embed_tokens"));
}

TEST_CASE("A part of an adapter that has no place in the model is not dropped in silence", "[recipe]") {
  auto lm = load_base(kFixtures / "base");
  recipe::attach_lora(*lm, continued_from(kFixtures / "plain"), "base", 0);
  checkpoint::AdapterWeights weights = checkpoint::load_adapter(kFixtures / "plain", lm->spec()).weights;
  weights.modules_to_save["lm_head.weight"] = torch::zeros({20, 8});
  test::require_error(ErrorKind::kInternal, {"have a place in the model"}, [&] { recipe::fill_adapter(*lm, weights); });
}

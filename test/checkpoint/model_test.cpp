#include <nlohmann/json.hpp>

#include <set>

#include "catch_amalgamated.hpp"
#include "checkpoint/init_model.h"
#include "checkpoint/load_weights.h"
#include "checkpoint/save_model.h"
#include "device/device.h"
#include "io/json.h"
#include "spec/weight_check.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::checkpoint;
using dsft::test::read_file;
using dsft::test::require_error;
using dsft::test::TempDir;
namespace fs = std::filesystem;

namespace {

const fs::path kBase = fs::path(DSFT_SOURCE_DIR) / "test/fixtures/checkpoint/base";

NamedTensors empty_parameters(const spec::ModelSpec& spec, at::ScalarType type, at::Device device = at::kCPU) {
  NamedTensors parameters;
  for (const auto& tensor : spec::tensor_inventory(spec))
    parameters.emplace_back(tensor.name,
                            at::zeros(tensor.shape, at::TensorOptions(type).device(device)).requires_grad_());
  return parameters;
}

// Loads parameters of this type and device, and compares them with the file's.
void check_loading(at::ScalarType type, at::Device device, const ReadOptions& options) {
  const auto spec = spec::read_model_spec(kBase);
  const auto set = io::SafetensorsSet::open(kBase);
  const NamedTensors parameters = empty_parameters(spec, type, device);
  load_weights(spec, set, parameters, options);
  for (const auto& [name, tensor] : parameters)
    REQUIRE(at::equal(tensor.detach().cpu(), read_tensor(set, *set.find(name)).to(type)));
}

}  // namespace

TEST_CASE("weights are loaded into preallocated parameters and converted, in pieces of any size", "[checkpoint]") {
  const int num_threads = GENERATE(1, 5);
  const int64_t piece_bytes = GENERATE(8, 52, 1000, int64_t{4} << 20);  // the last takes any tensor whole
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf})
    check_loading(type, at::kCPU, {.num_threads = num_threads, .piece_bytes = piece_bytes});
}

TEST_CASE("weights are loaded onto a GPU, in pieces of any size", "[checkpoint][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  const int64_t piece_bytes = GENERATE(52, 1000, int64_t{4} << 20);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf})
    check_loading(type, at::Device(at::kCUDA, 0), {.num_threads = 5, .piece_bytes = piece_bytes});
}

TEST_CASE("weights that cannot be read to their end are an error, whichever thread meets it", "[checkpoint]") {
  TempDir dir;
  fs::copy_file(kBase / "model.safetensors", dir / "model.safetensors");
  const auto spec = spec::read_model_spec(kBase);
  const auto set = io::SafetensorsSet::open(dir.path());
  const at::ScalarType type = GENERATE(at::kFloat, at::kBFloat16);
  const NamedTensors parameters = empty_parameters(spec, type);
  fs::resize_file(dir / "model.safetensors", fs::file_size(dir / "model.safetensors") / 2);
  require_error(ErrorKind::kCheckpoint, {"model.safetensors ends at byte", "was cut"},
                [&] { load_weights(spec, set, parameters, {.num_threads = 4, .piece_bytes = 64}); });
}

TEST_CASE("missing, unexpected and misshapen weights are listed together", "[checkpoint]") {
  const auto spec = spec::read_model_spec(kBase);
  NamedTensors parameters = empty_parameters(spec, at::kFloat);
  parameters[0].first = "model.other.weight";
  parameters[1].second = at::zeros({1});
  require_error(ErrorKind::kCheckpoint,
                {"3 faults", "missing: model.other.weight", "unexpected: model.embed_tokens.weight",
                 "wrong shape: model.layers.0.self_attn.q_proj.weight"},
                [&] { load_weights(spec, io::SafetensorsSet::open(kBase), parameters); });
}

TEST_CASE("a tied head that differs from the embedding is refused", "[checkpoint]") {
  const auto spec = spec::read_model_spec(kBase);
  const NamedTensors parameters = empty_parameters(spec, at::kFloat);
  load_weights(spec, io::SafetensorsSet::open(kBase), parameters);
  TempDir dir;
  NamedTensors with_head = parameters;
  with_head.emplace_back("lm_head.weight", parameters[0].second.detach().clone());
  write_tensors(dir / "model.safetensors", with_head);
  REQUIRE_NOTHROW(load_weights(spec, io::SafetensorsSet::open(dir.path()), parameters));
  with_head.back().second[0][0] += 1;
  write_tensors(dir / "model.safetensors", with_head);
  require_error(ErrorKind::kCheckpoint, {"tie_word_embeddings", "differs"},
                [&] { load_weights(spec, io::SafetensorsSet::open(dir.path()), parameters); });
}

TEST_CASE("a saved model loads again, whole or in shards", "[checkpoint]") {
  const auto spec = spec::read_model_spec(kBase);
  const NamedTensors parameters = empty_parameters(spec, at::kFloat);
  load_weights(spec, io::SafetensorsSet::open(kBase), parameters);
  TempDir dir;
  fs::create_directories(dir / "out");
  for (const int64_t limit : {int64_t{1} << 40, int64_t{900}}) {
    fs::create_directory(dir / "staged");
    save_model(dir / "staged", parameters,
               {.source = kBase, .dtype = at::kBFloat16, .chat_template = "{{ messages }}", .max_shard_bytes = limit});
    publish_files(dir / "staged", dir / "out");
    const auto set = io::SafetensorsSet::open(dir / "out");
    REQUIRE((set.files().size() > 1) == (limit == 900));
    const auto saved = spec::read_model_spec(dir / "out");
    REQUIRE(saved.dtype == io::DType::kBF16);
    REQUIRE(spec::check_weights(saved, set).empty());
    REQUIRE(at::equal(read_tensor(set, *set.find("model.norm.weight")),
                      parameters.back().second.detach().to(at::kBFloat16)));
    REQUIRE(read_file(dir / "out/chat_template.jinja") == "{{ messages }}");
  }
  REQUIRE_FALSE(fs::exists(dir / "out/model.safetensors"));
}

TEST_CASE("publishing deletes what an earlier save would say of the weights, by its exact names only", "[checkpoint]") {
  TempDir dir;
  for (const char* name :
       {"model-00001-of-00003.safetensors", "model.safetensors.index.json", "adapter_model.safetensors",
        "adapter_config.json", "chat_template.jinja", "additional_chat_templates/tools.jinja",
        "model_notes.safetensors", "model-best.safetensors", "adapter_model_old.safetensors"})
    dir.write(std::string("out/") + name, "earlier");
  dir.write("staged/model.safetensors", "new");
  publish_files(dir / "staged", dir / "out");
  std::set<std::string> left;
  for (const auto& entry : fs::directory_iterator(dir / "out")) left.insert(entry.path().filename().string());
  REQUIRE(left == std::set<std::string>{"model.safetensors", "model_notes.safetensors", "model-best.safetensors",
                                        "adapter_model_old.safetensors"});
}

TEST_CASE("publishing that ends midway leaves no old and new shards that load together", "[checkpoint]") {
  TempDir dir;
  for (const char* folder : {"out/", "staged/"})
    for (const char* name :
         {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"})
      dir.write(std::string(folder) + name, folder);
  // a folder cannot take the place of a file: the second shard fails
  fs::remove(dir / "staged/model-00002-of-00002.safetensors");
  fs::create_directory(dir / "staged/model-00002-of-00002.safetensors");
  require_error(ErrorKind::kCheckpoint, {"model-00002-of-00002"}, [&] { publish_files(dir / "staged", dir / "out"); });
  REQUIRE(read_file(dir / "out/model-00001-of-00002.safetensors") == "staged/");
  REQUIRE(read_file(dir / "out/model-00002-of-00002.safetensors") == "out/");
  REQUIRE_FALSE(fs::exists(dir / "out/model.safetensors.index.json"));
}

TEST_CASE("random models follow the config, the seed and the names", "[checkpoint]") {
  TempDir dir;
  dir.write(
      "config.json",
      R"({"model_type": "qwen3", "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.1, "pad_token_id": 3, "eos_token_id": 151645, "dtype": "float32"})");
  dir.write("tokenizer/tokenizer.json", "{}");
  const Logger quiet(0, true);
  InitRequest request{.config = dir / "config.json",
                      .tokenizer = dir / "tokenizer",
                      .output = dir / "a",
                      .seed = 1,
                      .num_token_ids = 300,
                      .eos_token_id = 7};
  init_model(request, quiet);
  const auto set = io::SafetensorsSet::open(dir / "a");
  const at::Tensor embedding = read_tensor(set, *set.find("model.embed_tokens.weight"));
  REQUIRE(embedding[3].abs().max().item<float>() == 0);
  REQUIRE(embedding.std().item<float>() == Catch::Approx(0.1).epsilon(0.05));
  REQUIRE(std::abs(embedding.mean().item<float>()) < 0.005);
  REQUIRE(at::equal(read_tensor(set, *set.find("model.layers.1.self_attn.q_norm.weight")), at::ones({16})));
  REQUIRE(spec::read_model_spec(dir / "a").eos_token_ids == std::vector<int32_t>{7});
  REQUIRE(fs::exists(dir / "a/tokenizer.json"));
  request.output = dir / "b";
  init_model(request, quiet);
  REQUIRE(read_file(dir / "a/model.safetensors") == read_file(dir / "b/model.safetensors"));
  request.output = dir / "c";
  request.seed = 2;
  init_model(request, quiet);
  REQUIRE(read_file(dir / "a/model.safetensors") != read_file(dir / "c/model.safetensors"));
  request.num_token_ids = 301;
  request.output = dir / "d";
  require_error(ErrorKind::kCheckpoint, {"vocab_size is 300", "301 ids"}, [&] { init_model(request, quiet); });
  REQUIRE_FALSE(fs::exists(dir / "d"));
}

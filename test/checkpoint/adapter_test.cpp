#include "checkpoint/adapter.h"

#include "catch_amalgamated.hpp"
#include "checkpoint/merge_lora.h"
#include "checkpoint/save_model.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::checkpoint;
using dsft::test::read_file;
using dsft::test::require_error;
using dsft::test::TempDir;
namespace fs = std::filesystem;

namespace {

const fs::path kFixtures = fs::path(DSFT_SOURCE_DIR) / "test/fixtures/checkpoint";
const Logger kQuiet(0, true);

const char* const kCases[] = {"plain",           "bias_all",      "bias_lora_only", "saved_head",
                              "saved_embedding", "saved_both",    "target_head",    "target_head_saved_embedding",
                              "excluded_list",   "excluded_regex"};

/// `max_error`: 0 for what is only copied; what was summed may differ in the last bit between kinds of CPU.
void require_same_tensors(const io::SafetensorsSet& actual, const io::SafetensorsFile& expected, double max_error = 0) {
  REQUIRE(actual.names().size() == expected.tensors().size());
  for (const io::TensorInfo& info : expected.tensors()) {
    INFO(info.name);
    const io::TensorInfo* found = actual.find(info.name);
    REQUIRE(found != nullptr);
    REQUIRE(found->dtype == info.dtype);
    REQUIRE(at::allclose(read_tensor(actual, *found), read_tensor(expected, info), max_error, max_error));
  }
}

}  // namespace

TEST_CASE("adapters that PEFT saved are read, and written again with the same tensors", "[checkpoint]") {
  const auto spec = spec::read_model_spec(kFixtures / "base");
  for (const char* name : kCases) {
    INFO(name);
    const Adapter adapter = load_adapter(kFixtures / name, spec);
    TempDir dir;
    save_adapter(dir.path(), spec, adapter.settings, adapter.weights);
    require_same_tensors(io::SafetensorsSet::open(dir.path(), "adapter_model"),
                         io::SafetensorsFile::open(kFixtures / name / "adapter_model.safetensors"));
    const Adapter again = load_adapter(dir.path(), spec);
    REQUIRE(spec::format_adapter_settings(again.settings, spec) ==
            spec::format_adapter_settings(adapter.settings, spec));
  }
}

TEST_CASE("merged weights equal those of PEFT's merge_and_unload", "[checkpoint]") {
  for (const char* name : kCases) {
    INFO(name);
    const std::string case_name = name;
    // PEFT adds this update to the shared weight, so to the embedding too; test/recipe compares logits
    if (case_name == "target_head") continue;
    TempDir dir;
    merge_lora({.base = kFixtures / "base",
                .adapter = kFixtures / name,
                .output = dir / "merged",
                .dtype = {},
                .verify = true},
               kQuiet);
    require_same_tensors(io::SafetensorsSet::open(dir / "merged"),
                         io::SafetensorsFile::open(kFixtures / name / "merged.safetensors"), 1e-6);
    const bool is_untied = case_name.find("saved_") != std::string::npos;
    REQUIRE(spec::read_model_spec(dir / "merged").tie_word_embeddings == !is_untied);
  }
}

TEST_CASE("a merge into bf16 rounds once, and shards carry an index", "[checkpoint]") {
  TempDir dir;
  merge_lora({.base = kFixtures / "base",
              .adapter = kFixtures / "plain",
              .output = dir / "merged",
              .dtype = at::kBFloat16,
              .verify = true,
              .max_shard_bytes = 1000},
             kQuiet);
  const auto merged = io::SafetensorsSet::open(dir / "merged");
  REQUIRE(merged.files().size() > 2);
  REQUIRE(spec::read_model_spec(dir / "merged").dtype == io::DType::kBF16);
  const auto spec = spec::read_model_spec(kFixtures / "base");
  const auto base = io::SafetensorsSet::open(kFixtures / "base");
  const Adapter adapter = load_adapter(kFixtures / "plain", spec);
  const auto& update = adapter.weights.modules.at("model.layers.1.mlp.down_proj");
  const char* name = "model.layers.1.mlp.down_proj.weight";
  const at::Tensor expected =
      (read_tensor(base, *base.find(name)) + at::matmul(update.b, update.a) * update.scale).to(at::kBFloat16);
  REQUIRE(update.r == 2);
  REQUIRE(at::equal(read_tensor(merged, *merged.find(name)), expected));
}

TEST_CASE("a merge into a bf16 base equals PEFT's bit for bit", "[checkpoint]") {
  TempDir dir;
  const auto base = io::SafetensorsSet::open(kFixtures / "base");
  NamedTensors tensors;
  for (const std::string& name : base.names()) tensors.emplace_back(name, read_tensor(base, *base.find(name)));
  fs::create_directory(dir / "base");
  save_model(dir / "base", tensors, {.source = kFixtures / "base", .dtype = at::kBFloat16, .chat_template = {}});
  merge_lora(
      {.base = dir / "base", .adapter = kFixtures / "plain", .output = dir / "merged", .dtype = {}, .verify = true},
      kQuiet);
  require_same_tensors(io::SafetensorsSet::open(dir / "merged"),
                       io::SafetensorsFile::open(kFixtures / "plain/merged_bf16.safetensors"));
}

TEST_CASE("a merged folder has tokenizer and template of one folder: the adapter's where it has them", "[checkpoint]") {
  TempDir dir;
  fs::copy(kFixtures / "base", dir / "base");
  fs::copy(kFixtures / "plain", dir / "adapter");
  dir.write("base/tokenizer.json", "of the base");
  dir.write("base/chat_template.jinja", "of the base");
  dir.write("adapter/chat_template.jinja", "of the adapter");
  int64_t num_merged = 0;
  const auto merged = [&] {
    const fs::path output = dir / concat("merged", ++num_merged);
    merge_lora({.base = dir / "base", .adapter = dir / "adapter", .output = output, .dtype = {}}, kQuiet);
    return output;
  };
  const fs::path without_tokenizer = merged();
  CHECK(read_file(without_tokenizer / "tokenizer.json") == "of the base");
  CHECK(read_file(without_tokenizer / "chat_template.jinja") == "of the base");
  dir.write("adapter/tokenizer.json", "of the adapter");
  const fs::path with_tokenizer = merged();
  CHECK(read_file(with_tokenizer / "tokenizer.json") == "of the adapter");
  CHECK(read_file(with_tokenizer / "chat_template.jinja") == "of the adapter");
  // a template inside tokenizer_config.json would lose against the base's chat_template.jinja
  fs::remove(dir / "adapter/chat_template.jinja");
  dir.write("adapter/tokenizer_config.json", "{\"chat_template\": \"of the adapter\"}");
  CHECK_FALSE(fs::exists(merged() / "chat_template.jinja"));
}

TEST_CASE("a merge does not drop a head that differs from the embedding that it is tied to", "[checkpoint]") {
  TempDir dir;
  fs::copy(kFixtures / "base", dir / "base");
  const auto base = io::SafetensorsSet::open(kFixtures / "base");
  NamedTensors tensors;
  for (const std::string& name : base.names()) tensors.emplace_back(name, read_tensor(base, *base.find(name)));
  tensors.emplace_back("lm_head.weight", at::zeros({20, 8}));
  write_tensors(dir / "base/model.safetensors", tensors);
  require_error(ErrorKind::kCheckpoint, {"tie_word_embeddings", "lm_head.weight differs"}, [&] {
    merge_lora({.base = dir / "base", .adapter = kFixtures / "plain", .output = dir / "merged", .dtype = {}}, kQuiet);
  });
}

TEST_CASE("a failed merge leaves nothing", "[checkpoint]") {
  TempDir dir;
  const MergeRequest request{.base = kFixtures / "base",
                             .adapter = kFixtures / "plain",
                             .output = dir / "merged",
                             .dtype = {},
                             .verify = true};
  const auto refuse = [](const fs::path&) { fail(ErrorKind::kCheckpoint, "logits differ"); };
  require_error(ErrorKind::kCheckpoint, {"logits differ"}, [&] { merge_lora(request, kQuiet, refuse); });
  REQUIRE(fs::is_empty(dir.path()));
  merge_lora(request, kQuiet);
  require_error(ErrorKind::kUsage, {"exists already"}, [&] { merge_lora(request, kQuiet); });
}

TEST_CASE("adapters that do not fit are refused with all reasons", "[checkpoint]") {
  const auto spec = spec::read_model_spec(kFixtures / "base");
  TempDir dir;
  const auto copy_with = [&](const std::string& from, const std::string& to) {
    fs::copy(kFixtures / "plain", dir.path(), fs::copy_options::overwrite_existing | fs::copy_options::recursive);
    std::string config = read_file(kFixtures / "plain/adapter_config.json");
    const size_t at = config.rfind(from);
    REQUIRE(at != std::string::npos);
    dir.write("adapter_config.json", config.replace(at, from.size(), to));
  };
  const auto fails = [&](std::initializer_list<std::string> parts) {
    require_error(ErrorKind::kCheckpoint, parts, [&] { load_adapter(dir.path(), spec); });
  };
  copy_with("\"use_dora\": false", "\"use_dora\": true");
  fails({"use_dora"});
  copy_with("\"peft_type\": \"LORA\"", "\"peft_type\": \"IA3\"");
  fails({"IA3"});
  copy_with("\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa_niter_4\"");
  fails({"pissa_niter_4"});
  copy_with("\"lora_dropout\": 0.0", "\"lora_dropout\": 1.0");
  fails({"lora_dropout", "drops every value"});
  copy_with("\"lora_dropout\": 0.0", "\"lora_dropout\": 1.5");
  fails({"lora_dropout"});
  copy_with("\"r\": 4", "\"r\": 3");
  fails({"wrong shape", "q_proj.lora_A.weight is [4, 8]", "[3, 8]"});
  copy_with("\"q_proj\"", "\"o_proj\"");
  fails({"unexpected: base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"});
  copy_with("\"q_proj\"", "\"q_proj\", \"v_proj\"");
  fails({"missing: base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"});
  copy_with("\"q_proj\"", "\"q_proj\", \"wq\"");
  REQUIRE_NOTHROW(load_adapter(dir.path(), spec));
  fs::remove(dir / "adapter_config.json");
  fails({"no adapter_config.json"});
}

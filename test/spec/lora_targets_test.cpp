#include "spec/lora_targets.h"

#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "io/json.h"
#include "spec/lora_checks.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using dsft::ErrorKind;
using dsft::lora::LoraConfig;
using dsft::lora::TargetModules;
using dsft::test::require_error;
using dsft::test::TempDir;
using namespace dsft::spec;
using nlohmann::ordered_json;

namespace {

ModelSpec read_spec(const ordered_json& config) {
  TempDir dir;
  return read_model_spec_file(dir.write("config.json", config.dump()));
}

TargetModules targets_of(const ordered_json& value) {
  TargetModules targets;
  if (value.is_array()) {
    targets.kind = TargetModules::Kind::kNames;
    targets.names = value.get<std::vector<std::string>>();
  } else if (value != "all-linear" && value != "ALL-linear") {
    targets.kind = TargetModules::Kind::kRegex;
    targets.regex = value;
  }
  return targets;
}

LoraConfig config_of(const ordered_json& settings) {
  LoraConfig config;
  config.r = 4;
  config.lora_alpha = 8;
  for (const auto& [key, value] : settings.items()) {
    if (key == "target_modules") config.target_modules = targets_of(value);
    if (key == "exclude_modules") config.exclude_modules = targets_of(value);
    if (key == "layers_to_transform")
      config.layers_to_transform = value.is_array() ? value.get<std::vector<int64_t>>() : std::vector<int64_t>{value};
    if (key == "layers_pattern")
      config.layers_pattern =
          value.is_array() ? value.get<std::vector<std::string>>() : std::vector<std::string>{value};
    if (key == "modules_to_save") config.modules_to_save = value.get<std::vector<std::string>>();
    if (key == "use_rslora") config.use_rslora = value;
    if (key == "rank_pattern") {
      for (const auto& [name, rank] : value.items()) config.rank_pattern.emplace_back(name, rank);
    }
    if (key == "alpha_pattern") {
      for (const auto& [name, alpha] : value.items()) config.alpha_pattern.emplace_back(name, alpha);
    }
  }
  return config;
}

ModelSpec small_spec() {
  return read_spec({{"model_type", "llama"},
                    {"vocab_size", 8},
                    {"hidden_size", 4},
                    {"intermediate_size", 6},
                    {"num_hidden_layers", 2},
                    {"num_attention_heads", 2}});
}

/// "key: message", faults marked, one a line.
std::string remarks_of(const ModelSpec& spec, const LoraConfig& config) {
  std::string all;
  for (const LoraRemark& remark : check_lora_names(spec, config))
    all += (remark.is_fault ? "fault " : "") + remark.key + ": " + remark.message + "\n";
  return all;
}

}  // namespace

TEST_CASE("LoRA targets, ranks and scales equal PEFT's", "[spec]") {
  const auto document =
      dsft::io::read_ordered_json_file(std::string(DSFT_SOURCE_DIR) + "/test/fixtures/spec/lora_targets.json");
  int failed = 0;
  for (const auto& item : document["cases"]) {
    const ModelSpec spec = read_spec(document["models"][item["model"].get<std::string>()]);
    const LoraConfig config = config_of(item["settings"]);
    INFO(item["model"] << " " << item["settings"]);
    if (item.contains("error")) {
      REQUIRE_THROWS_AS(match_lora_targets(spec, config), dsft::Error);
      ++failed;
      continue;
    }
    nlohmann::json expected = item["targets"];
    for (const LoraTarget& target : match_lora_targets(spec, config)) {
      INFO(target.module);
      REQUIRE(expected.contains(target.module));
      const auto& row = expected[target.module];
      REQUIRE(target.r == row[0]);
      REQUIRE(target.scale == Catch::Approx(row[1].get<double>()).epsilon(1e-12));
      REQUIRE(target.in_features == row[2]);
      REQUIRE(target.out_features == row[3]);
      expected.erase(target.module);
    }
    REQUIRE(expected.empty());
    auto saved = match_modules_to_save(spec, config);
    std::sort(saved.begin(), saved.end());
    REQUIRE(saved == item["saved"].get<std::vector<std::string>>());
  }
  REQUIRE(failed >= 10);
}

TEST_CASE("LoRA settings that cannot work say why", "[spec]") {
  const ModelSpec spec = small_spec();
  const auto fails = [&](const ordered_json& settings, std::initializer_list<std::string> parts) {
    require_error(ErrorKind::kUsage, parts, [&] { match_lora_targets(spec, config_of(settings)); });
  };
  fails({{"target_modules", {"query"}}}, {"[query]", "matches no module", "down_proj, gate_proj", "q_proj"});
  fails({{"target_modules", {"embed_tokens"}}}, {"model.embed_tokens", "modules_to_save"});
  fails({{"target_modules", {"norm"}}}, {"model.norm", "no Linear"});
  fails({{"target_modules", "*bad"}}, {"faulty at character"});
  fails({{"target_modules", R"((m+)+(o+)*(\w+)*(x+)+\d+y)"}}, {"lora.target_modules"});
  fails({{"target_modules", {"q_proj"}}, {"exclude_modules", {"q_proj"}}}, {"exclude_modules"});
  fails({{"target_modules", "all-linear"}, {"layers_to_transform", {0}}}, {"layers_to_transform"});
  fails({{"target_modules", {"q_proj"}}, {"layers_pattern", {"layers"}}}, {"needs both"});
  for (const char* pattern : {"(layers)", "layers|(x)layers"}) {
    fails({{"target_modules", {"q_proj"}}, {"layers_pattern", {pattern}}, {"layers_to_transform", {0}}},
          {"layers_pattern", "without groups"});
  }
  fails({{"target_modules", {"q_proj"}}, {"rank_pattern", {{"q_proj", 0}}}},
        {"rank of model.layers.0.self_attn.q_proj is 0"});
  require_error(ErrorKind::kUsage, {"head"}, [&] {
    match_modules_to_save(spec, config_of({{"modules_to_save", {"head"}}})).empty()
        ? void()
        : dsft::fail(ErrorKind::kUsage, "head");
  });
  require_error(ErrorKind::kUsage, {"classifier"}, [&] {
    match_modules_to_save(spec, config_of({{"modules_to_save", {"classifier"}}}));
  });
}

TEST_CASE("pattern keys and exclusions without effect are those of which PEFT warns", "[spec]") {
  const auto document =
      dsft::io::read_ordered_json_file(std::string(DSFT_SOURCE_DIR) + "/test/fixtures/spec/lora_targets.json");
  int num_unused = 0;
  for (const auto& item : document["cases"]) {
    if (item.contains("error")) continue;
    INFO(item["model"] << " " << item["settings"]);
    const ordered_json unused = item.value("unused", ordered_json::object());
    const std::string remarks =
        remarks_of(read_spec(document["models"][item["model"].get<std::string>()]), config_of(item["settings"]));
    for (const char* map : {"rank_pattern", "alpha_pattern"}) {
      const ordered_json entries = item["settings"].value(map, ordered_json::object());
      for (const auto& [key, value] : entries.items()) {
        const auto keys = unused.value(map, std::vector<std::string>());
        const bool is_unused = std::find(keys.begin(), keys.end(), key) != keys.end();
        CHECK((remarks.find(std::string(map) + ": `" + key + "` has no effect: it matches no") != std::string::npos) ==
              is_unused);
        num_unused += is_unused;
      }
    }
    CHECK((remarks.find("exclude_modules: ") != std::string::npos) == unused.contains("exclude_modules"));
    num_unused += unused.contains("exclude_modules");
  }
  REQUIRE(num_unused >= 10);
}

TEST_CASE("a name of target_modules that matches nothing is a fault with the nearest name", "[spec]") {
  const ModelSpec spec = small_spec();
  const auto remarks = [&](const ordered_json& settings) { return remarks_of(spec, config_of(settings)); };
  CHECK(remarks({{"target_modules", {"q_proj", "qproj", "k_projj"}}}) ==
        "fault target_modules: `qproj` matches no module of this model; did you mean `q_proj`?\n"
        "fault target_modules: `k_projj` matches no module of this model; did you mean `k_proj`?\n");
  CHECK(remarks({{"target_modules", {"q_proj", "self_attn.kproj"}}}) ==
        "fault target_modules: `self_attn.kproj` matches no module of this model; did you mean `self_attn.k_proj`?\n");
  CHECK(remarks({{"target_modules", {"q_proj", "query_key_value"}}}) ==
        "fault target_modules: `query_key_value` matches no module of this model; its Linear modules are down_proj, "
        "gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj and v_proj\n");
  // names that match, whatever other settings leave of them, and forms that are no lists
  CHECK(remarks({{"target_modules", {"q_proj", "lm_head", "model.layers.1.mlp.up_proj"}}}) == "");
  CHECK(remarks({{"target_modules", {"q_proj", "k_proj"}}, {"exclude_modules", {"k_proj"}}})
            .starts_with("target_modules: `k_proj` has no effect"));
  CHECK(remarks({{"target_modules", "all-linear"}}) == "");
  CHECK(remarks({{"target_modules", ".*(q_proj|c_attn)"}}) == "");
}

TEST_CASE("entries of a LoRA section that decide nothing are named", "[spec]") {
  const ModelSpec spec = small_spec();
  CHECK(remarks_of(spec, config_of({{"target_modules", {"q_proj", "k_proj"}},
                                    {"rank_pattern", {{".*_proj", 3}, {"q_proj", 5}}},
                                    {"layers_to_transform", {1, 2}}})) ==
        "layers_to_transform: 2 has no effect: the layers of this model are 0 to 1\n"
        "rank_pattern: `q_proj` has no effect: an entry before it matches every module that it matches, and the first "
        "decides\n");
}

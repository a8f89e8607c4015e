#include "text/tokenizer_json.h"

#include <catch_amalgamated.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "support/fixtures.h"
#include "text/tokenizer.h"

using Catch::Matchers::ContainsSubstring;
using dsft::text::Tokenizer;

namespace {

nlohmann::json small_description() {
  return nlohmann::json::parse(R"({"added_tokens": [{"id": 5, "content": "<s>", "special": true}], "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}, "post_processor": null, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}, "merges": ["a b", ["ab", "c"]]}})");
}

std::string fault_of(const std::string& json) {
  try {
    Tokenizer::parse(json, "x/tokenizer.json");
  } catch (const dsft::Error& error) {
    CHECK(error.kind() == dsft::ErrorKind::kCheckpoint);
    CHECK_THAT(error.message(), ContainsSubstring("x/tokenizer.json"));
    return error.message();
  }
  return "no fault";
}

std::string fault_with(const std::string& pointer, const nlohmann::json& value) {
  nlohmann::json description = small_description();
  description[nlohmann::json::json_pointer(pointer)] = value;
  return fault_of(description.dump());
}

}  // namespace

TEST_CASE("a tokenizer.json in both spellings of merges is read", "[text]") {
  const Tokenizer tokenizer = Tokenizer::parse(small_description().dump(), "small");
  CHECK(tokenizer.encode("abc<s>ab", false) == std::vector<int32_t>{4, 5, 3});
  CHECK(tokenizer.num_ids() == 6);
}

TEST_CASE("escapes in token strings are read", "[text]") {
  const std::string json =
      R"({"model": {"vocab": {"\u0041": 0, "\ud83d\ude00": 1, "\"": 2, "\\": 3, "A\ud83d\ude00": 4}, "merges": ["A \ud83d\ude00"]}})";
  CHECK(Tokenizer::parse(json, "escapes").encode("A😀\"\\", false) == std::vector<int32_t>{4, 2, 3});
}

TEST_CASE("a broken tokenizer.json is a checkpoint fault that says what is wrong", "[text]") {
  CHECK_THAT(fault_of(""), ContainsSubstring("expected '{'"));
  CHECK_THAT(fault_of("{\n\"model\": {\n\"vocab\": {\"a\": 0"), ContainsSubstring(":3:"));
  CHECK_THAT(fault_of("{}"), ContainsSubstring("\"model\" is missing"));
  CHECK_THAT(fault_of("[1, 2]"), ContainsSubstring("expected '{'"));
  CHECK_THAT(fault_of("{\"model\": \"\xFF\"}"), ContainsSubstring("no valid UTF-8"));
  CHECK_THAT(fault_of(small_description().dump() + "x"), ContainsSubstring("after the end"));
  CHECK_THAT(fault_of(R"({"model": {"vocab": {"a": 0, "a": 1}, "merges": []}})"), ContainsSubstring("appears twice"));
  CHECK_THAT(fault_of(R"({"model": {"vocab": {"\ud800": 0}, "merges": []}})"), ContainsSubstring("surrogate"));
  CHECK_THAT(fault_of(R"({"model": {"vocab": {"a": 0.5}, "merges": []}})"), ContainsSubstring("whole number"));
  CHECK_THAT(fault_of(R"({"model": {"vocab": {"a": 99999999999999999999}, "merges": []}})"),
             ContainsSubstring("whole number"));
  CHECK_THAT(fault_of(R"({"model": {"merges": []}})"), ContainsSubstring("\"vocab\" is missing"));
  CHECK_THAT(fault_of(R"({"model": {"vocab": {"a": 0}}})"), ContainsSubstring("\"merges\" is missing"));
  CHECK_THAT(fault_of("{\"version\": " + std::string(200, '[') + "}"), ContainsSubstring("nested too deeply"));
  CHECK_THAT(fault_with("/model/vocab/a", -1), ContainsSubstring("id -1"));
  CHECK_THAT(fault_with("/model/vocab/a", 4000000000), ContainsSubstring("id 4000000000"));
  CHECK_THAT(fault_with("/model/vocab/a", 1), ContainsSubstring("same id 1"));
  CHECK_THAT(fault_with("/model/vocab", nlohmann::json::object()), ContainsSubstring("vocabulary is empty"));
  CHECK_THAT(fault_with("/model/merges/0", "a x"), ContainsSubstring("\"x\", which is not in the vocabulary"));
  CHECK_THAT(fault_with("/model/merges/0", "b a"), ContainsSubstring("needs the token \"ba\""));
  CHECK_THAT(fault_with("/model/merges/0", "a b c"), ContainsSubstring("two tokens"));
  CHECK_THAT(fault_with("/model/merges/0", 3), ContainsSubstring("expected '\"'"));
  CHECK_THAT(fault_with("/model/unk_token", "?"), ContainsSubstring("unk_token \"?\""));
  CHECK_THAT(fault_with("/added_tokens/0/id", -7), ContainsSubstring("id -7"));
  CHECK_THAT(fault_with("/added_tokens/0/id", 9), ContainsSubstring("numbers it 5"));
  CHECK_THAT(fault_with("/added_tokens/0/content", "ab"), ContainsSubstring("numbers it 3"));
  CHECK_THAT(fault_with("/added_tokens/0/content", nlohmann::json()),
             ContainsSubstring("\"content\" must be a string"));
}

TEST_CASE("a component that is not supported is named", "[text]") {
  CHECK_THAT(fault_with("/model/type", "Unigram"), ContainsSubstring("\"Unigram\" is not supported"));
  CHECK_THAT(fault_with("/model/dropout", 0.1), ContainsSubstring("dropout"));
  CHECK_THAT(fault_with("/model/end_of_word_suffix", "</w>"), ContainsSubstring("end_of_word_suffix"));
  CHECK_THAT(fault_with("/normalizer", {{"type", "Precompiled"}}),
             ContainsSubstring("\"Precompiled\" is not supported"));
  CHECK_THAT(fault_with("/pre_tokenizer", {{"type", "BertPreTokenizer"}}),
             ContainsSubstring("\"BertPreTokenizer\" is not supported"));
  CHECK_THAT(fault_with("/post_processor", {{"type", "X"}}), ContainsSubstring("\"X\" is not supported"));
  CHECK_THAT(fault_with("/decoder", {{"type", "CTC"}}), ContainsSubstring("\"CTC\" is not supported"));
  const nlohmann::json split = {
      {"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}, {"invert", false}};
  CHECK_THAT(fault_with("/pre_tokenizer", split), ContainsSubstring("cannot be compiled"));
  nlohmann::json bad = split;
  bad["pattern"] = {{"String", "a"}};
  bad["behavior"] = "Sideways";
  CHECK_THAT(fault_with("/pre_tokenizer", bad), ContainsSubstring("\"Sideways\""));
  const nlohmann::json after =
      nlohmann::json::parse(R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]})");
  CHECK_THAT(fault_with("/pre_tokenizer", after), ContainsSubstring("\"Digits\" after ByteLevel"));
}

TEST_CASE("a splitting expression that never ends is a fault, not a hang", "[text]") {
  nlohmann::json description = small_description();
  description["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "(a+)+$"}}}, {"behavior", "Isolated"}, {"invert", false}};
  const Tokenizer tokenizer = Tokenizer::parse(description.dump(), "x/tokenizer.json");
  CHECK_THROWS_AS(tokenizer.encode(std::string(64, 'a') + "!", false), dsft::Error);
}

TEST_CASE("a damaged tokenizer.json never crashes", "[text]") {
  const std::string family = GENERATE("llama3", "llama2");
  const std::string original = dsft::test::read_fixture("text/tokenizer/" + family + ".json");
  std::mt19937 random(17);
  auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  int num_refused = 0;
  for (int round = 0; round < 400; ++round) {
    std::string json = original;
    for (size_t change = 0; change <= below(3); ++change) {
      // half of the changes hit the settings before the vocabulary
      const size_t i = below(below(2) ? json.size() : std::min<size_t>(json.size(), 3000));
      switch (below(5)) {
        case 0:
          json[i] = static_cast<char>(below(256));
          break;
        case 1:
          json[i] = "{}[]\":,0-9\\"[below(11)];
          break;
        case 2:
          json.erase(i, below(40));
          break;
        case 3:
          json.insert(i, json.substr(below(json.size()), below(60)));
          break;
        default:
          json.resize(std::max<size_t>(i, 1));
          break;
      }
    }
    try {
      const Tokenizer tokenizer = Tokenizer::parse(json, "damaged");
      const auto ids = tokenizer.encode("Hello <|eot_id|> <s> don't  123 é\n", true);
      tokenizer.decode(ids, false);
    } catch (const dsft::Error& error) {
      CHECK(error.kind() == dsft::ErrorKind::kCheckpoint);
      ++num_refused;
    }
  }
  CHECK(num_refused > 100);
}

TEST_CASE("roles come from tokenizer_config.json, then from special_tokens_map.json", "[text]") {
  const auto directory =
      std::filesystem::temp_directory_path() / ("dsft_roles_" + std::to_string(std::random_device()()));
  std::filesystem::create_directories(directory);
  auto write = [&](const char* name, const std::string& text) { std::ofstream(directory / name) << text; };
  write("tokenizer.json", small_description().dump());
  write(
      "tokenizer_config.json",
      R"({"added_tokens_decoder": {}, "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "abc", "pad_token": null})");
  write("special_tokens_map.json", R"({"bos_token": "b", "pad_token": {"content": "c"}, "unk_token": "nowhere"})");
  const Tokenizer tokenizer = Tokenizer::load(directory);
  CHECK(tokenizer.bos_token() == "<s>");
  CHECK(tokenizer.bos_id() == 5);
  CHECK(tokenizer.eos_id() == 4);
  CHECK(tokenizer.pad_token() == "c");
  CHECK(tokenizer.pad_id() == 2);
  CHECK(tokenizer.unk_token() == "nowhere");
  write("tokenizer_config.json", "{\"bos_token\": 3}");
  CHECK_THROWS_WITH(Tokenizer::load(directory), ContainsSubstring("bos_token"));
  write("tokenizer_config.json", "{oops");
  CHECK_THROWS_WITH(Tokenizer::load(directory), ContainsSubstring("tokenizer_config.json:1"));
  std::filesystem::remove_all(directory);
  CHECK_THROWS_WITH(Tokenizer::load(directory), ContainsSubstring("tokenizer.json"));
}

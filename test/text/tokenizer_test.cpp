#include "text/tokenizer.h"

#include <catch_amalgamated.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "support/fixtures.h"
#include "text/utf8.h"

using dsft::text::ByteRange;
using dsft::text::Encoding;
using dsft::text::Tokenizer;

namespace {

Tokenizer load_fixture(const std::string& family) {
  return Tokenizer::parse(dsft::test::read_fixture("text/tokenizer/" + family + ".json"), family);
}

/// Byte offsets as pairs of character offsets; a token that is part of a character counts as all of it.
nlohmann::json character_offsets(const std::string& text, const Encoding& encoding) {
  std::vector<size_t> character;
  size_t count = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!dsft::text::is_utf8_continuation(text[i])) ++count;
    character.push_back(count - 1);
  }
  character.push_back(count);
  nlohmann::json result = nlohmann::json::array();
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    const size_t begin = encoding.begins[i], end = encoding.ends[i];
    result.push_back({character.at(begin), end > begin ? character.at(end - 1) + 1 : character.at(end)});
  }
  return result;
}

std::string million_letters() {
  std::string text;
  for (uint32_t i = 0, state = 1; i < 1 << 20; ++i) {
    state = (state * 1103515245U + 12345U) & 0x7FFFFFFFU;
    text.push_back(static_cast<char>('a' + (state >> 16) % 26));
  }
  return text;
}

std::string hash_ids(const std::vector<int32_t>& ids) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (int32_t id : ids) hash = (hash ^ static_cast<uint64_t>(id)) * 0x100000001B3ULL;
  return std::to_string(hash);
}

}  // namespace

TEST_CASE("ids, offsets and decoded text of each family equal those of Hugging Face's tokenizers", "[text]") {
  const std::string family = GENERATE("gpt2", "llama3", "qwen2", "smollm2", "llama2");
  const Tokenizer tokenizer = load_fixture(family);
  const nlohmann::json answers =
      nlohmann::json::parse(dsft::test::read_fixture("text/tokenizer/" + family + ".cases.json"));
  for (const nlohmann::json& expected : answers["cases"]) {
    const auto text = expected["text"].get<std::string>();
    CAPTURE(family, text);
    const Encoding encoding = tokenizer.encode_with_offsets(text, true);
    CHECK(nlohmann::json(encoding.ids) == expected["ids"]);
    CHECK(nlohmann::json(tokenizer.encode(text, false)) == expected["ids_without_special"]);
    CHECK(tokenizer.decode(encoding.ids, false) == expected["decoded"].get<std::string>());
    CHECK(tokenizer.decode(encoding.ids, true) == expected["decoded_without_special"].get<std::string>());
    if (expected.contains("offsets")) CHECK(character_offsets(text, encoding) == expected["offsets"]);
  }
  const auto ids = tokenizer.encode(million_letters(), false);
  CHECK(ids.size() == answers["million_letters"]["num_ids"].get<size_t>());
  CHECK(hash_ids(ids) == answers["million_letters"]["hash"].get<std::string>());
}

TEST_CASE("each supported component answers as Hugging Face's tokenizers", "[text]") {
  const nlohmann::json answers =
      nlohmann::json::parse(dsft::test::read_fixture("text/tokenizer/components.cases.json"));
  for (const nlohmann::json& expected : answers["cases"]) {
    nlohmann::json description = nlohmann::json::parse(dsft::test::read_fixture("text/tokenizer/gpt2.json"));
    description.update(expected["override"]);
    const Tokenizer tokenizer = Tokenizer::parse(description.dump(), "components");
    for (size_t i = 0; i < answers["texts"].size(); ++i) {
      const auto text = answers["texts"][i].get<std::string>();
      CAPTURE(expected["override"].dump(), text);
      const auto ids = tokenizer.encode(text, true);
      if (expected.contains("decoded")) {
        CHECK(tokenizer.decode(ids, true) == expected["decoded"][i].get<std::string>());
      } else {
        CHECK(nlohmann::json(ids) == expected["ids"][i]);
      }
    }
  }
}

TEST_CASE("tokens of an encoding cover the text without gaps", "[text]") {
  const std::string family = GENERATE("gpt2", "llama3", "qwen2", "smollm2");
  const Tokenizer tokenizer = load_fixture(family);
  for (const std::string text : {"Hello  world 👍🏽\n\n  123", " <|endoftext|>  x ", "नमस्ते <|im_start|>दुनिया"}) {
    const Encoding encoding = tokenizer.encode_with_offsets(text, false);
    uint32_t position = 0;
    for (size_t i = 0; i < encoding.ids.size(); ++i) {
      CHECK(encoding.begins[i] == position);
      position = encoding.ends[i];
    }
    CHECK(position == text.size());
  }
}

TEST_CASE("a composed character keeps the bytes of all its parts", "[text]") {
  const Tokenizer tokenizer = load_fixture("qwen2");  // NFC
  const std::string text = "x e\u0301 y";
  const Encoding encoding = tokenizer.encode_with_offsets(text, false);
  CHECK(tokenizer.decode(encoding.ids, false) == "x \u00e9 y");
  bool is_covered = false;
  for (size_t i = 0; i < encoding.ids.size(); ++i) is_covered |= encoding.begins[i] <= 2 && encoding.ends[i] == 5;
  CHECK(is_covered);
  CHECK(encoding.ends.back() == text.size());
}

TEST_CASE("special tokens in a plain range are ordinary text", "[text]") {
  const Tokenizer tokenizer = load_fixture("qwen2");
  const int32_t start = tokenizer.token_to_id("<|im_start|>").value();
  const std::string text = "<|im_start|>user\n<|im_start|> <think> x<|im_end|>";
  const size_t user = 17, user_end = 38;
  REQUIRE(text.substr(user, 12) == "<|im_start|>");
  REQUIRE(text.substr(user_end - 1, 2) == " x");

  auto count = [&](const std::vector<ByteRange>& ranges, const std::string& token) {
    const auto ids = tokenizer.encode_with_offsets(text, false, ranges).ids;
    CHECK(tokenizer.decode(ids, false) == text);
    return std::count(ids.begin(), ids.end(), tokenizer.token_to_id(token).value());
  };
  CHECK(count({}, "<|im_start|>") == 2);
  CHECK(count({{user, user_end}}, "<|im_start|>") == 1);
  CHECK(count({{user, user_end}}, "<|im_end|>") == 1);
  CHECK(count({{user, user_end}}, "<think>") == 1);                    // added, but not special
  CHECK(count({{0, 1}, {user + 11, user_end}}, "<|im_start|>") == 0);  // one byte of overlap is enough
  CHECK(count({{12, user}}, "<|im_start|>") == 2);                     // touching is no overlap
  CHECK(count({{0, text.size()}}, "<|im_end|>") == 0);
  CHECK(tokenizer.encode_with_offsets(text, false, std::vector<ByteRange>{{user, user_end}}).ids.front() == start);
}

TEST_CASE("a special token in plain text is not reached through ignore_merges either", "[text]") {
  nlohmann::json description = nlohmann::json::parse(dsft::test::read_fixture("text/tokenizer/llama3.json"));
  description["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const Tokenizer tokenizer = Tokenizer::parse(description.dump(), "llama3");
  const std::string text = "<|eot_id|>";
  CHECK(tokenizer.encode(text, false).size() == 1);
  CHECK(tokenizer.encode_with_offsets(text, false, std::vector<ByteRange>{{0, 10}}).ids.size() > 1);
}

TEST_CASE("a text that is no valid UTF-8 is refused with the byte", "[text]") {
  const Tokenizer tokenizer = load_fixture("smollm2");
  for (const auto& [text, byte] :
       std::vector<std::pair<std::string, std::string>>{{"abc\xFFz", "byte 3"},
                                                        {"\xC3", "byte 0"},
                                                        {"0123456789abcdef\xED\xA0\x80", "byte 16"},
                                                        {"x\xC0\x80", "byte 1"},
                                                        {"\xF4\x90\x80\x80", "byte 0"}}) {
    try {
      tokenizer.encode(text, false);
      FAIL("no error for " << byte);
    } catch (const dsft::Error& error) {
      CHECK(error.kind() == dsft::ErrorKind::kData);
      CHECK_THAT(error.message(), Catch::Matchers::ContainsSubstring(byte));
    }
  }
}

TEST_CASE("bytes of a cut character decode to U+FFFD as Rust's from_utf8_lossy gives them", "[text]") {
  using dsft::text::replace_invalid_utf8;
  CHECK(replace_invalid_utf8("a\xE2\x82z") == "a\uFFFDz");  // a cut character is one
  CHECK(replace_invalid_utf8("\xE2\x82") == "\uFFFD");
  CHECK(replace_invalid_utf8("\xF0\x9F\x98") == "\uFFFD");
  CHECK(replace_invalid_utf8("\xFF\xFE") == "\uFFFD\uFFFD");
  CHECK(replace_invalid_utf8("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD");  // a surrogate: no byte fits the one before
  CHECK(replace_invalid_utf8("\xC0\x80") == "\uFFFD\uFFFD");
  CHECK(replace_invalid_utf8("ok \u00e9\u4f60\U0001F600") == "ok \u00e9\u4f60\U0001F600");
}

TEST_CASE("ids without a token are left out of decoded text, and ids know their tokens", "[text]") {
  const Tokenizer tokenizer = load_fixture("smollm2");
  const std::vector<int32_t> ids = {-1, 0, 1 << 30, tokenizer.token_to_id("a").value()};
  CHECK(tokenizer.decode(ids, false) == "<|endoftext|>a");
  CHECK(tokenizer.decode(ids, true) == "a");
  CHECK(tokenizer.id_to_token(0) == "<|endoftext|>");
  CHECK(tokenizer.id_to_token(-5).empty());
  CHECK(tokenizer.is_special(0));
  CHECK_FALSE(tokenizer.is_special(tokenizer.token_to_id("a").value()));
  CHECK_FALSE(tokenizer.token_to_id("no such token").has_value());
  CHECK(load_fixture("qwen2").num_ids() == load_fixture("qwen2").token_to_id("</tool_call>").value() + 1);
}

TEST_CASE("threads may share a tokenizer", "[text]") {
  const Tokenizer tokenizer = load_fixture("llama3");
  const nlohmann::json answers = nlohmann::json::parse(dsft::test::read_fixture("text/tokenizer/llama3.cases.json"));
  std::atomic<int> num_wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (const nlohmann::json& expected : answers["cases"]) {
        num_wrong += nlohmann::json(tokenizer.encode(expected["text"].get<std::string>(), true)) != expected["ids"];
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(num_wrong == 0);
}

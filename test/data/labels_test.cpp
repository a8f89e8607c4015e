#include <fstream>
#include <map>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "data/example_builder.h"
#include "io/json.h"
#include "support/fixtures.h"

using namespace dsft;
using namespace dsft::data;
using Json = nlohmann::ordered_json;

namespace {

TextAssets assets(const std::string& name) {
  return TextAssets::load(
      test::fixture_path("data/tokenizer"),
      name.empty() ? std::filesystem::path() : test::fixture_path("data/templates/" + name + ".jinja"));
}

LossOn loss_on(const std::string& word) {
  return config::from_word<LossOn>(word).value();
}

std::string fault(const std::string& chat_template, const char* row, LossOn loss = LossOn::kAuto) {
  const TextAssets text = assets(chat_template);
  try {
    ExampleBuilder(text, loss, Json::object()).build(Json::parse(row));
  } catch (const Error& error) {
    return error.message();
  }
  return "no fault";
}

/// Ids with the supervised ones in brackets, as text.
std::string marked(const TextAssets& text, const std::vector<int32_t>& ids, const std::vector<int32_t>& labels) {
  std::string line;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string token = text.tokenizer.id_to_token(ids[i]);
    line += labels[i] == kIgnored ? token : "[" + token + "]";
  }
  return line;
}

}  // namespace

TEST_CASE("ids and supervised tokens equal the reference's", "[data]") {
  // made by scripts/goldens/data_labels.py with transformers
  for (const Json& expected : io::read_ordered_json_file(test::fixture_path("data/labels.json"), ErrorKind::kData)) {
    const TextAssets text = assets(expected["template"].is_null() ? "" : expected["template"].get<std::string>());
    ExampleBuilder builder(text, loss_on(expected["loss_on"]), expected["kwargs"]);
    const Example example = builder.build(expected["row"]);
    INFO(expected["about"]);
    CHECK(marked(text, example.ids, example.labels) == marked(text, expected["token_ids"].get<std::vector<int32_t>>(),
                                                              expected["labels"].get<std::vector<int32_t>>()));
    CHECK(example.ids == expected["token_ids"].get<std::vector<int32_t>>());
    CHECK(example.labels == expected["labels"].get<std::vector<int32_t>>());
  }
}

TEST_CASE("what the template never reads is a fault", "[data]") {
  CHECK_THAT(
      fault(
          "chatml",
          R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": [{"name": "f"}]})"),
      Catch::Matchers::ContainsSubstring("never reads tools"));
  CHECK_THAT(
      fault(
          "chatml",
          R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}]})"),
      Catch::Matchers::ContainsSubstring("never reads them"));
  CHECK(
      fault(
          "thinking",
          R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": [{"name": "f"}]})") ==
      "no fault");
}

TEST_CASE("a template that never ends a turn is refused", "[data]") {
  CHECK_THAT(
      fault("no_stop", R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})"),
      Catch::Matchers::ContainsSubstring("no stop token after message 1"));
  CHECK_THAT(
      fault("no_stop",
            R"({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]})"),
      Catch::Matchers::ContainsSubstring("no stop token after message 1"));
}

TEST_CASE("loss_on that does not fit the row is a fault", "[data]") {
  CHECK_THAT(fault("", R"({"text": "a"})", LossOn::kAssistant),
             Catch::Matchers::ContainsSubstring("loss_on: assistant"));
  CHECK_THAT(fault("", R"({"text": "a"})", LossOn::kCompletion),
             Catch::Matchers::ContainsSubstring("loss_on: completion"));
  CHECK_THAT(fault("", R"({"prompt": "a", "completion": "b"})", LossOn::kAssistant),
             Catch::Matchers::ContainsSubstring("loss_on: assistant"));
}

TEST_CASE("a conversation without a chat template is a fault of the checkpoint", "[data]") {
  const TextAssets text = assets("");
  ExampleBuilder builder(text, LossOn::kAuto, Json::object());
  try {
    builder.build(Json::parse(R"({"messages": [{"role": "user", "content": "q"}]})"));
    FAIL("no fault");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kCheckpoint);
    CHECK_THAT(error.message(), Catch::Matchers::ContainsSubstring("data.chat_template"));
  }
}

TEST_CASE("token rows are checked against the tokenizer", "[data]") {
  CHECK(fault("", R"({"token_ids": [1, 2]})") == "no fault");
  CHECK_THAT(fault("", R"({"token_ids": [1, 100000]})"), Catch::Matchers::ContainsSubstring("100000 is no token"));
}

TEST_CASE("a conversation without an answer supervises nothing", "[data]") {
  const TextAssets text = assets("chatml");
  ExampleBuilder builder(text, LossOn::kAuto, Json::object());
  CHECK(builder.build(Json::parse(R"({"messages": [{"role": "user", "content": "q"}]})")).num_supervised() == 0);
}

#include "data/row_prompt.h"

#include "catch_amalgamated.hpp"
#include "support/require_error.h"

using namespace dsft;
using Json = nlohmann::ordered_json;

namespace {

const std::filesystem::path kPromptText = std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures/data";

data::TextAssets assets_of_prompts(const std::string& chat_template) {
  return data::TextAssets::load(kPromptText / "tokenizer", chat_template.empty()
                                                               ? std::filesystem::path()
                                                               : kPromptText / "templates" / chat_template);
}

}  // namespace

TEST_CASE("A conversation becomes its messages and the generation prompt, an answer at its end left out", "[data]") {
  const data::TextAssets text = assets_of_prompts("chatml.jinja");
  const data::PromptBuilder builder(text, Json::object());
  const Json user = {{"role", "user"}, {"content", "Hello"}}, assistant = {{"role", "assistant"}, {"content", "Hi!"}};
  const std::string expected = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n";
  const auto asked = builder.build_next({{"messages", {user}}});
  CHECK(text.tokenizer.decode(asked.ids, false) == expected);
  CHECK(asked.answer.is_null());
  for (const Json& row : {Json{{"messages", {user, assistant}}}, Json{{"prompt", {user}}},
                          Json{{"prompt", {user}}, {"completion", {assistant}}}, Json{{"instruction", "Hello"}},
                          Json::parse(R"({"conversations": [{"from": "human", "value": "Hello"}]})")}) {
    INFO(row.dump());
    CHECK(builder.build_next(row).ids == asked.ids);
  }
  // with more messages behind it, the last assistant turn is still the one that is judged
  const auto judged = builder.build_last_answer({{"messages", {user, assistant, user}}});
  CHECK(judged.ids == asked.ids);
  CHECK(judged.answer == assistant);
  CHECK(builder.build_last_answer({{"messages", {user}}}).answer.is_null());
}

TEST_CASE("What users write never becomes a special token of the prompt", "[data]") {
  const data::TextAssets text = assets_of_prompts("chatml.jinja");
  const auto prompt = data::PromptBuilder(text, Json::object())
                          .build_next(Json::parse(R"({"messages": [{"role": "user", "content": "<|im_end|>"}]})"));
  const int32_t stop = *text.tokenizer.token_to_id("<|im_end|>");
  CHECK(std::count(prompt.ids.begin(), prompt.ids.end(), stop) == 1);
}

TEST_CASE("Texts are continued as they stand, and token_ids are taken as they are", "[data]") {
  const data::TextAssets text = assets_of_prompts("");
  const data::PromptBuilder builder(text, Json::object());
  const std::vector<int32_t> ids = text.tokenizer.encode("Once upon", true);
  CHECK(builder.encode_text("Once upon") == ids);
  CHECK(builder.build_next({{"text", "Once upon"}}).ids == ids);
  CHECK(builder.build_next({{"prompt", "Once upon"}}).ids == ids);
  const auto judged = builder.build_last_answer({{"prompt", "Once upon"}, {"completion", " a time"}});
  CHECK(judged.ids == ids);
  CHECK(judged.answer["content"] == " a time");
  CHECK(builder.build_next({{"token_ids", {3, 4}}}).ids == std::vector<int32_t>{3, 4});
  test::require_error(ErrorKind::kData, {"token_ids", "100000"}, [&] {
    builder.build_next({{"token_ids", {100000}}});
  });
  test::require_error(ErrorKind::kData, {"token_ids"}, [&] { builder.build_next({{"token_ids", Json::array()}}); });
  test::require_error(ErrorKind::kCheckpoint, {"chat template"},
                      [&] { builder.build_next(Json::parse(R"({"messages": [{"role": "user", "content": "x"}]})")); });
}

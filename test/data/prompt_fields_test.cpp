// What a row asks, and what rewards are told of it.
#include "data/prompt_fields.h"

#include "catch_amalgamated.hpp"
#include "support/require_error.h"

using namespace dsft;
using Json = nlohmann::ordered_json;

namespace {

Json columns(const char* text) {
  const Json row = Json::parse(text);
  return data::columns_of(row, data::given_answer(data::read_question(row)));
}

bool is_conversation(const char* text) {
  return std::holds_alternative<data::Conversation>(data::read_question(Json::parse(text)));
}

}  // namespace

TEST_CASE("What a prompt is made of is no column, and a row's answer is one", "[data]") {
  const Json answer = {{"role", "assistant"}, {"content", "4"}};
  CHECK(columns(R"({"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]})") ==
        Json{{"completion", answer}});
  CHECK(columns(R"({"messages": [{"role": "user", "content": "2 + 2?"}], "answer": "4", "tools": null})") ==
        Json{{"answer", "4"}, {"tools", nullptr}});
  CHECK(columns(R"({"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]})") ==
        Json{{"completion", answer}});
  CHECK(columns(R"({"instruction": "2 + 2?", "input": "as a word", "output": "four", "system": "Count.", "id": 1})") ==
        Json{{"output", "four"}, {"id", 1}, {"completion", {{"role", "assistant"}, {"content", "four"}}}});
  CHECK(columns(R"({"prompt": "2 + 2 =", "completion": "4"})") == Json{{"completion", "4"}});
  CHECK(columns(R"({"prompt": "2 + 2 =", "answer": 4})") == Json{{"answer", 4}});
  CHECK(columns(R"({"token_ids": [1, 2], "answer": "4"})") == Json{{"answer", "4"}});
}

TEST_CASE("An instruction without an output has no answer, whatever was said before", "[data]") {
  const char* row = R"({"instruction": "And 3 + 3?", "history": [["2 + 2?", "4"]]})";
  CHECK(columns(row) == Json::object());
  const auto question = std::get<data::Conversation>(data::read_question(Json::parse(row)));
  CHECK(question.messages.size() == 3);
  CHECK(data::count_asked(question) == 3);
  CHECK(question.messages.back() == Json{{"role", "user"}, {"content", "And 3 + 3?"}});
}

TEST_CASE("A field that is null asks nothing, and a prompt goes before other formats", "[data]") {
  test::require_error(ErrorKind::kData, {"\"prompt\" and \"answer\"", "a row needs messages"},
                      [] { columns(R"({"prompt": null, "answer": "4"})"); });
  const auto question = std::get<data::PlainText>(
      data::read_question(Json::parse(R"({"prompt": "2 + 2 =", "instruction": "Count.", "text": "2 + 2 = 4"})")));
  CHECK(question.completion == "2 + 2 =");
  CHECK_FALSE(question.is_completion);
  test::require_error(ErrorKind::kData, {"field \"prompt\"", "not number"}, [] { columns(R"({"prompt": 5})"); });
  test::require_error(ErrorKind::kData, {"field \"prompt\"", "an empty list"}, [] { columns(R"({"prompt": []})"); });
}

TEST_CASE("Messages, and what becomes messages, have a place for a system message", "[data]") {
  CHECK(is_conversation(R"({"messages": [{"role": "user", "content": "a"}]})"));
  CHECK(is_conversation(R"({"prompt": [{"role": "user", "content": "a"}], "text": "b"})"));
  CHECK(is_conversation(R"({"instruction": "a"})"));
  CHECK_FALSE(is_conversation(R"({"prompt": "a"})"));
  CHECK_FALSE(is_conversation(R"({"messages": null, "text": "a"})"));
  CHECK_FALSE(is_conversation(R"({"token_ids": [1]})"));
  data::require_conversation(data::read_question(Json::parse(R"({"instruction": "a"})")));
  test::require_error(ErrorKind::kData, {"no conversation", "write its prompt as messages"}, [] {
    data::require_conversation(data::read_question(Json{{"prompt", "a"}}));
  });
}

#include "evaluate/answer_match.h"

#include "catch_amalgamated.hpp"

using namespace dsft;
using Json = nlohmann::ordered_json;

namespace {

Json call_message(const std::string& name, const Json& arguments) {
  return {{"role", "assistant"},
          {"tool_calls", {{{"type", "function"}, {"function", {{"name", name}, {"arguments", arguments}}}}}}};
}

}  // namespace

TEST_CASE("Tool calls match by name and arguments as JSON", "[evaluate]") {
  const Json message = call_message("get_weather", {{"city", "Bern"}, {"days", 3}});
  using evaluate::makes_same_calls;
  CHECK(makes_same_calls(
      "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"days\": 3, \"city\": \"Bern\"}}\n</tool_call>",
      message));
  CHECK(makes_same_calls("{\"name\":\"get_weather\",\"parameters\":{\"city\":\"Bern\",\"days\":3.0}}", message));
  CHECK(
      makes_same_calls("Let me look.\n<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\", "
                       "\"days\": 3}}</tool_call>",
                       message));

  CHECK_FALSE(makes_same_calls(
      "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Basel\", \"days\": 3}}</tool_call>",
      message));
  CHECK_FALSE(makes_same_calls(
      "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\", \"days\": 3}}</tool_call>", message));
  CHECK_FALSE(makes_same_calls(
      "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}</tool_call>", message));
  CHECK_FALSE(makes_same_calls(
      "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\", \"days\": \"3\"}}</tool_call>",
      message));
  CHECK_FALSE(makes_same_calls(
      "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\", \"days\": 3}", message));
  CHECK_FALSE(makes_same_calls("It is sunny in Bern.", message));
  CHECK_FALSE(makes_same_calls("", message));
}

TEST_CASE("Arguments of a row may be a JSON string, and calls may stand in its text", "[evaluate]") {
  const std::string answer = "<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": [2, 3]}}</tool_call>";
  CHECK(evaluate::makes_same_calls(answer, call_message("add", "{\"b\": [2, 3], \"a\": 1}")));
  CHECK(evaluate::makes_same_calls(
      answer, {{"role", "assistant"}, {"content", "{\"name\": \"add\", \"arguments\": {\"b\": [2, 3], \"a\": 1}}"}}));
}

TEST_CASE("A row that expects no call matches where none is made, and several calls all count", "[evaluate]") {
  const Json text = {{"role", "assistant"}, {"content", "I cannot do that."}};
  CHECK(evaluate::makes_same_calls("Sorry, no.", text));
  CHECK_FALSE(evaluate::makes_same_calls("<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>", text));
  CHECK_FALSE(evaluate::makes_same_calls("<tool_call>broken", text));

  Json two = call_message("f", {{"x", 1}});
  two["tool_calls"].push_back({{"name", "g"}, {"arguments", Json::object()}});
  const std::string f = "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>",
                    g = "<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>";
  CHECK(evaluate::makes_same_calls(f + "\n" + g, two));
  CHECK_FALSE(evaluate::makes_same_calls(f, two));
  CHECK_FALSE(evaluate::makes_same_calls(f + f, two));
}

TEST_CASE("The text of a message is its content or the text parts of it", "[evaluate]") {
  CHECK(evaluate::text_of_message({{"content", "a b"}}) == "a b");
  CHECK(evaluate::text_of_message(
            Json::parse(R"({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})")) == "ab");
  CHECK(evaluate::text_of_message({{"content", nullptr}}).empty());
  CHECK(evaluate::text_of_message({{"role", "assistant"}}).empty());
  CHECK(evaluate::stripped(" \n a b\t") == "a b");
  CHECK(evaluate::stripped(" \n").empty());
}

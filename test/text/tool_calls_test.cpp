#include "text/tool_calls.h"

#include "catch_amalgamated.hpp"

using dsft::text::read_tool_calls;
using dsft::text::tool_calls_of_message;
using dsft::text::ToolCall;
using nlohmann::json;

TEST_CASE("Calls are read from every form that templates teach", "[text]") {
  const ToolCall weather{"get_weather", {{"city", "Bern"}}};
  const std::string call = R"({"name": "get_weather", "arguments": {"city": "Bern"}})";
  const std::string answers[] = {
      "<tool_call>\n" + call + "\n</tool_call>",
      "Let me see.\n<tool_call>" + call + "</tool_call><|im_end|>",
      "<tool_call>\n" + call,
      call,
      " " + call + "<|eot_id|>",
      R"({"name": "get_weather", "parameters": {"city": "Bern"}})",
      R"({"type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Bern\"}"}})",
      "[" + call + "]",
      "<|python_tag|>" + call,
      "[TOOL_CALLS][" + call + "]</s>",
      "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Bern\"}",
      "<function=get_weather>{\"city\": \"Bern\"}</function>",
      "<tool_call>\n<function=get_weather>\n<parameter=city>\nBern\n</parameter>\n</function>\n</tool_call>",
  };
  for (const std::string& answer : answers) {
    INFO(answer);
    const auto calls = read_tool_calls(answer);
    REQUIRE(calls.size() == 1);
    CHECK(calls[0] == weather);
  }
}

TEST_CASE("Several calls keep their order", "[text]") {
  const std::string a = R"({"name": "a", "arguments": {"x": 1}})";
  const std::string b = R"({"name": "b", "arguments": {}})";
  for (const std::string& answer : {"<tool_call>" + a + "</tool_call>\n<tool_call>" + b + "</tool_call>",
                                    "[" + a + ", " + b + "]", a + "; " + b, "[TOOL_CALLS][" + a + "," + b + "]"}) {
    INFO(answer);
    const auto calls = read_tool_calls(answer);
    REQUIRE(calls.size() == 2);
    CHECK(calls[0] == ToolCall{"a", {{"x", 1}}});
    CHECK(calls[1] == ToolCall{"b", json::object()});
  }
}

TEST_CASE("An answer without a call gives none, and broken JSON in a mark gives a nameless one", "[text]") {
  for (const char* answer : {"", "It is sunny.", "{\"a\": 1}", "[1, 2]", "{\"name\": \"x\"}", "{",
                             "{\"name\": \"a\", \"arguments\": {}} and more words", "null"}) {
    INFO(answer);
    CHECK(read_tool_calls(answer).empty());
  }
  for (const char* answer :
       {"<tool_call>{\"name\": \"a\", </tool_call>", "<tool_call></tool_call>", "<tool_call>[[[", "[TOOL_CALLS]{",
        "<function=f>{\"a\"</function>", "<function=f", "<tool_call>{\"name\": \"a\", \"arguments\": 5}</tool_call>",
        "<tool_call>\xff</tool_call>"}) {
    INFO(answer);
    const auto calls = read_tool_calls(answer);
    REQUIRE(calls.size() == 1);
    CHECK(calls[0].name.empty());
  }
  CHECK(read_tool_calls(std::string(100000, '[')).empty());
}

TEST_CASE("A message's calls come from tool_calls, else from its content", "[text]") {
  using Json = nlohmann::ordered_json;
  const ToolCall f{"f", {{"b", 1}, {"a", "x"}}};
  CHECK(
      tool_calls_of_message(Json::parse(
          R"({"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": "x", "b": 1}}}]})")) ==
      std::vector{f});
  CHECK(tool_calls_of_message(Json::parse(
            R"({"tool_calls": [{"name": "f", "arguments": "{\"b\": 1, \"a\": \"x\"}"}]})")) == std::vector{f});
  CHECK(tool_calls_of_message(Json::parse(
            R"({"content": "<tool_call>{\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": \"x\"}}</tool_call>"})")) ==
        std::vector{f});
  CHECK(tool_calls_of_message(Json::parse(R"({"content": "hello", "tool_calls": null})")).empty());
  CHECK(tool_calls_of_message(Json::parse(R"({"content": null})")).empty());
  CHECK(tool_calls_of_message(Json::parse("[]")).empty());
}

TEST_CASE("An answer of opening tags alone is read in linear time", "[text]") {
  std::string tags, functions;
  for (int i = 0; i < 200'000; ++i) {
    tags += "<tool_call>";
    functions += "<function=>";
  }
  CHECK(read_tool_calls(tags).size() == 200'000);
  CHECK(read_tool_calls(functions).size() == 200'000);
}

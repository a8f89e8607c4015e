#include "data/row_format.h"

#include <fstream>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "data/example.h"

using namespace dsft;
using namespace dsft::data;
using Json = nlohmann::ordered_json;

namespace {

Conversation conversation(const char* text) {
  return std::get<Conversation>(read_row(Json::parse(text)));
}

std::string fault(const char* text) {
  try {
    read_row(Json::parse(text));
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kData);
    return error.message();
  }
  return "no fault";
}

}  // namespace

TEST_CASE("messages come with tools as a list or as a JSON string", "[data]") {
  const auto list = conversation(R"({"messages": [{"role": "user", "content": "a"}], "tools": [{"name": "f"}]})");
  const auto text = conversation(R"({"messages": [{"role": "user", "content": "a"}], "tools": "[{\"name\": \"f\"}]"})");
  CHECK(list.tools == text.tools);
  CHECK(list.tools.size() == 1);
  for (const char* none : {"null", "[]", "\"\"", "\" \"", "\"[]\""}) {
    CHECK(conversation(
              (R"({"messages": [{"role": "user", "content": "a"}], "tools": )" + std::string(none) + "}").c_str())
              .tools.is_null());
  }
}

TEST_CASE("speakers of conversations become roles", "[data]") {
  const auto row = conversation(
      R"({"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
      {"from": "observation", "value": "1"}, {"from": "gpt", "value": "a"}]})");
  std::vector<std::string> roles;
  for (const Json& message : row.messages) roles.push_back(message["role"]);
  CHECK(roles == std::vector<std::string>{"system", "user", "assistant", "tool", "assistant"});
  CHECK(row.messages[2]["tool_calls"].dump() == R"([{"type":"function","function":{"name":"f","arguments":{"x":1}}}])");
}

TEST_CASE("role and content under conversations are taken as they are", "[data]") {
  CHECK(conversation(R"({"conversations": [{"role": "user", "content": "q"}]})").messages.dump() ==
        R"([{"role":"user","content":"q"}])");
}

TEST_CASE("instruction rows become a question and an answer", "[data]") {
  CHECK(conversation(R"({"instruction": "i", "input": "x", "output": "o"})").messages.dump() ==
        R"([{"role":"user","content":"i\nx"},{"role":"assistant","content":"o"}])");
  CHECK(
      conversation(R"({"instruction": "i", "input": null, "output": "o", "system": "s", "history": [["q", "a"]]})")
          .messages.dump() ==
      R"([{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"a"},{"role":"user","content":"i"},{"role":"assistant","content":"o"}])");
}

TEST_CASE("prompt and completion are both text or both messages", "[data]") {
  const auto text = std::get<PlainText>(read_row(Json::parse(R"({"prompt": "p", "completion": "c"})")));
  CHECK(text.prompt == "p");
  CHECK(text.completion == "c");
  const auto messages = conversation(
      R"({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]})");
  CHECK(messages.num_prompt_messages == 1);
  CHECK(messages.messages.size() == 2);
  CHECK(fault(R"({"prompt": "p", "completion": [{"role": "assistant", "content": "a"}]})").find("both") !=
        std::string::npos);
  CHECK(fault(R"({"prompt": "p"})").find("\"completion\": is missing") != std::string::npos);
}

TEST_CASE("token rows without labels supervise every token", "[data]") {
  const auto row = std::get<TokenRow>(read_row(Json::parse(R"({"token_ids": [1, 2, 3]})")));
  CHECK(row.labels == row.ids);
  const auto labelled =
      std::get<TokenRow>(read_row(Json::parse(R"({"token_ids": [1, 2, 3], "labels": [-100, -100, 3]})")));
  CHECK(labelled.labels == std::vector<int32_t>{kIgnored, kIgnored, 3});
}

TEST_CASE("an assistant message may have something else than content, and roles of a template's own need none",
          "[data]") {
  const char* const question = R"({"messages": [{"role": "user", "content": ""}, )";
  for (const char* message : {R"({"role": "assistant", "content": null, "tool_calls": [{"name": "f"}]})",
                              R"({"role": "assistant", "tool_calls": [{"name": "f"}]})",
                              R"({"role": "assistant", "content": null, "reasoning_content": "hm"})",
                              R"({"role": "assistant", "content": ""})", R"({"role": "ipython", "output": "4"})"})
    CHECK(conversation((std::string(question) + message + "]}").c_str()).messages.size() == 2);
}

TEST_CASE("columns that are null count as absent", "[data]") {
  CHECK(std::holds_alternative<PlainText>(
      read_row(Json::parse(R"({"messages": null, "prompt": null, "text": "t", "tools": null})"))));
}

TEST_CASE("a fault of a row names the field", "[data]") {
  struct Case {
    const char* row;
    const char* message;
  };
  const auto example = GENERATE(
      Case{R"({})", "the row has no field"}, Case{R"({"solution": "x"})", "the fields \"solution\""},
      Case{R"({"question": "2 + 2?", "answer": "#### 4"})",
           "the fields \"question\" and \"answer\"; a row needs messages, prompt and completion, text, conversations, "
           "instruction and output, or token_ids: rename \"question\" to \"prompt\", or, where these are GSM8K's rows, "
           "make the file with scripts/make_gsm8k.py."},
      Case{R"({"messages": "hi"})", "field \"messages\": must be a list"},
      Case{R"({"messages": []})", "is an empty list"}, Case{R"({"messages": ["a"]})", "field \"messages[0]\""},
      Case{R"({"messages": [{"content": "a"}]})", "field \"messages[0].role\""},
      Case{R"({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]})",
           "field \"messages[0].weight\": must be 0 (the message is not learned) or 1, not 0.5"},
      Case{R"({"messages": [{"role": "assistant", "content": "a", "weight": true}]})", "field \"messages[0].weight\""},
      Case{R"({"messages": [{"role": "assistant", "content": "a", "weight": 0, "train": true}]})",
           "field \"messages[0].weight\": is 0, but .train is true"},
      Case{R"({"conversations": [{"from": "gpt", "value": "x", "train": 1}]})", "field \"conversations[0].train\""},
      Case{R"({"messages": [{"role": "user"}]})",
           "field \"messages[0].content\": is missing: a message of role user needs text or a list of text parts"},
      Case{R"({"messages": [{"role": "user", "content": null}]})", "field \"messages[0].content\": is null: a message"},
      Case{R"({"messages": [{"role": "tool", "name": "f", "tool_call_id": "1"}]})",
           "a message of role tool needs text"},
      Case{R"({"conversations": [{"role": "system"}]})", "field \"conversations[0].content\": is missing"},
      Case{R"({"system": "s", "conversations": [{"role": "user"}]})", "field \"conversations[0].content\": is missing"},
      Case{R"({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": null}]})",
           "field \"completion[0].content\": is null, and nothing stands in its place: an assistant message needs"},
      Case{R"({"messages": [{"role": "assistant", "tool_calls": [], "name": "x", "train": true}]})",
           "field \"messages[0].content\": is missing, and nothing stands in its place"},
      Case{R"({"messages": [{"role": "user", "content": 3}]})", "field \"messages[0].content\": must be text"},
      Case{R"({"messages": [{"role": "user", "content": [{"type": "image", "image": "x"}]}]})", "vision recipe"},
      Case{R"({"messages": [{"role": "user", "content": "a"}], "tools": "[{"})", "field \"tools\""},
      Case{R"({"messages": [{"role": "user", "content": "a"}], "tools": {"a": 1}})", "field \"tools\": must be a list"},
      Case{R"({"messages": [{"role": "user", "content": "a"}], "tools": ["f"]})", "field \"tools[0]\""},
      Case{R"({"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": 3})",
           "field \"chat_template_kwargs\""},
      Case{R"({"conversations": [{"from": "martian", "value": "x"}]})", "field \"conversations[0].from\": \"martian\""},
      Case{R"({"conversations": [{"from": "gpt"}]})", "field \"conversations[0].value\": is missing"},
      Case{R"({"conversations": [{"from": "function_call", "value": "no json"}]})", "field \"conversations[0].value\""},
      Case{R"({"instruction": "i"})", "field \"output\": is missing"},
      Case{R"({"text": 5})", "field \"text\": must be text"},
      Case{R"({"token_ids": [1, "a"]})", "field \"token_ids[1]\""},
      Case{R"({"token_ids": [1, -3]})", "field \"token_ids[1]\""},
      Case{R"({"token_ids": [1, 99999999999]})", "field \"token_ids[1]\""},
      Case{R"({"token_ids": [1, 18446744073709551615]})", "field \"token_ids[1]\""},
      Case{R"({"token_ids": [1, 1.5]})", "field \"token_ids[1]\""},
      Case{R"({"token_ids": [1, 2], "labels": [1]})", "field \"labels\": has 1"},
      Case{R"({"token_ids": [1, 2], "labels": [1, 3]})", "field \"labels[1]\": is 3"},
      Case{R"({"images": ["a"], "text": "x"})", "field \"images\""});
  CHECK_THAT(fault(example.row), Catch::Matchers::ContainsSubstring(example.message));
}

TEST_CASE("the rows of docs/data.md are rows", "[data]") {
  std::ifstream page(DSFT_SOURCE_DIR "/docs/data.md");
  int num_rows = 0;
  bool is_inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("```")) {
      is_inside = line == "```jsonl";
    } else if (is_inside) {
      INFO(line);
      CHECK(fault(line.c_str()) == "no fault");
      ++num_rows;
    }
  }
  CHECK(num_rows >= 15);
}

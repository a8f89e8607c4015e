// Goldens: scripts/goldens/chat_template.py (transformers).
#include "text/chat_template.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "support/fixtures.h"
#include "support/turn_text.h"

namespace {

using dsft::test::fixture_path;
using dsft::test::read_fixture;
using dsft::text::ChatInput;
using dsft::text::ChatTemplate;
using dsft::text::Json;
using dsft::text::RenderedChat;
using dsft::text::SpecialTokenMap;

const SpecialTokenMap kTokens = {
    {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}, {"unk_token", "<unk>"}};

/// A template of the fixtures, or one that ships.
ChatTemplate fixture(const std::string& name) {
  const std::filesystem::path shipped = std::filesystem::path(DSFT_SOURCE_DIR) / "recipes/templates" / name;
  if (std::filesystem::exists(shipped)) return *ChatTemplate::load("", shipped, /*has_tools=*/true);
  return ChatTemplate::parse(read_fixture("text/chat_template/" + name), name);
}

ChatInput input_of(const std::string& messages) {
  return {Json::parse(messages), nullptr, false, Json::object()};
}

RenderedChat render(const std::string& source, const std::string& messages) {
  return ChatTemplate::parse(source, "test").render(input_of(messages), kTokens);
}

const std::string kDialogue =
    R"([{"role": "system", "content": "sys"}, {"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"},
                                  {"role": "user", "content": "q2"}, {"role": "assistant", "content": "a2"}])";

// The bytes whose turn is `message`, in order.
std::string data_text(const RenderedChat& chat, int32_t message) {
  std::string text;
  for (const auto& span : chat.spans) {
    if (span.message == message && span.is_user_text) text += chat.text.substr(span.begin, span.end - span.begin);
  }
  return text;
}

void require_cover(const RenderedChat& chat) {
  size_t at = 0;
  for (const auto& span : chat.spans) {
    REQUIRE(span.begin == at);
    REQUIRE(span.end > span.begin);
    at = span.end;
  }
  REQUIRE(at == chat.text.size());
}

}  // namespace

TEST_CASE("The repository's templates give transformers' text for every conversation", "[text]") {
  const Json golden = Json::parse(read_fixture("text/chat_template/rendered.json"));
  for (const Json& wanted : golden["rendered"]) {
    const Json& row = golden["rows"][wanted["row"].get<std::string>()];
    INFO(wanted["template"] << " " << wanted["row"] << " " << wanted["add_generation_prompt"]);
    const ChatTemplate chat_template = fixture(wanted["template"]);
    const ChatInput input{row["messages"], row["tools"], wanted["add_generation_prompt"], row["kwargs"]};
    if (wanted["text"].is_null()) {
      CHECK_THROWS_AS(chat_template.render(input, kTokens), dsft::Error);
    } else {
      const RenderedChat chat = chat_template.render(input, kTokens);
      CHECK(chat.text == wanted["text"].get<std::string>());
      require_cover(chat);
    }
  }
}

TEST_CASE("The shipped template joins the text parts of a content", "[text]") {
  const auto as_parts = fixture("smollm2_tools.jinja")
                            .render(input_of(R"([{"role": "system", "content": [{"type": "text", "text": "Be "},
      {"type": "text", "text": "terse."}]}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
      {"role": "assistant", "content": [{"type": "text", "text": "He"}, {"type": "text", "text": "llo"}]}])"),
                                    kTokens);
  CHECK(as_parts.text ==
        "<|im_start|>system\nBe terse.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        "Hello<|im_end|>\n");
  CHECK(data_text(as_parts, 2) == "Hello");
}

TEST_CASE("Each byte of a turn knows its message: slices, indices, macros, namespaces, reversed and filtered lists",
          "[text]") {
  const std::string body = "<{{ m.role }}>{{ m.content | trim }}</>\n";
  const std::string sources[] = {
      "{{ messages[0].content }}\n{% for m in messages[1:] %}" + body + "{% endfor %}",
      "{% for i in range(1, messages | length) %}{% set m = messages[i] %}" + body + "{% endfor %}",
      "{% for i in range(1, messages | length) %}<{{ messages[i].role }}>{{ messages[i]['content'] }}</>\n{% endfor %}",
      "{% macro show(m) %}" + body +
          "{% endmacro %}{% for i in range(1, messages | length) %}{{ show(messages[i]) }}{% endfor %}",
      "{% set ns = namespace(list=messages[1:]) %}{% for m in ns.list %}" + body + "{% endfor %}",
      "{% for m in messages | rejectattr('role', 'eq', 'system') %}" + body + "{% endfor %}",
      "{% for m in messages[:0:-1] | list | reverse %}" + body + "{% endfor %}",
      "{% for i in range(1, messages | length) %}{% with m = messages[i] %}" + body + "{% endwith %}{% endfor %}",
      "{% for x in messages if x.role != 'system' %}{% set m = dict(x, extra=1) %}{% set out %}" + body +
          "{% endset %}{{ out }}{% endfor %}",
  };
  for (const std::string& source : sources) {
    INFO(source);
    const RenderedChat chat = render(source, kDialogue);
    require_cover(chat);
    CHECK(dsft::test::turn_text(chat, 1) == "<user>q1</>\n");
    CHECK(dsft::test::turn_text(chat, 2) == "<assistant>a1</>\n");
    CHECK(dsft::test::turn_text(chat, 4) == "<assistant>a2</>\n");
    CHECK(data_text(chat, 2) == "a1");
    CHECK(data_text(chat, 3) == "q2");
  }
}

TEST_CASE("Words outside of the turns belong to no message", "[text]") {
  const RenderedChat chat =
      render("{{ bos_token }}sys:{{ messages[0].content }}{% for m in messages[1:] %}[{{ m.content }}]{% endfor %}end",
             kDialogue);
  CHECK(chat.text == "<s>sys:sys[q1][a1][q2][a2]end");
  CHECK(chat.spans.front().message == RenderedChat::kNoMessage);
  CHECK(chat.spans.back().turn == RenderedChat::kNoMessage);
  CHECK(data_text(chat, 0) == "sys");
  CHECK(dsft::test::turn_text(chat, 0).empty());
}

TEST_CASE("Another message's data inside a turn keeps its own message", "[text]") {
  const RenderedChat chat =
      render("{% for m in messages %}{{ m.content ~ '/' ~ messages[0].content }};{% endfor %}", kDialogue);
  CHECK(dsft::test::turn_text(chat, 2) == "a1/sys;");
  CHECK(data_text(chat, 2) == "a1");
  CHECK(data_text(chat, 0) == "syssyssyssyssyssys");
}

TEST_CASE("Tags survive string functions and JSON", "[text]") {
  const std::string messages =
      R"([{"role": "assistant", "content": "<think>deep</think> Shown ", "tool_calls": [{"function": {"name": "f", "arguments": {"k": "v\n"}}}]}])";
  const RenderedChat chat = render(
      "{% for m in messages %}{{ m.content.split('</think>')[-1].strip() | upper | replace('SHOWN', 'seen: ' ~ "
      "m.content[7:11]) }}|"
      "{{ m.tool_calls[0].function.arguments | tojson }}{% endfor %}",
      messages);
  CHECK(chat.text == R"(seen: deep|{"k": "v\n"})");
  CHECK(data_text(chat, 0) == R"(deep{"k": "v\n"})");
}

TEST_CASE("What users and tools wrote is marked; a role that is a plain word counts as the template's", "[text]") {
  const RenderedChat chat = render("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}",
                                   R"([{"role": "user", "content": "<|end|>"}, {"role": "<|end|>", "content": "x"}])");
  CHECK(data_text(chat, 0) == "<|end|>");
  CHECK(data_text(chat, 1) == "<|end|>x");
  ChatInput input = input_of(kDialogue);
  input.tools = Json::parse(R"([{"name": "<|end|>"}])");
  const RenderedChat tools = ChatTemplate::parse("T{{ tools | tojson }}", "test").render(input, kTokens);
  REQUIRE(tools.spans.size() == 2);
  CHECK_FALSE(tools.spans[0].is_user_text);
  CHECK(tools.spans[1].is_user_text);
}

TEST_CASE("Text of a message is never read as a template", "[text]") {
  CHECK(render("{% for m in messages %}{{ m.content }}{% endfor %}",
               R"([{"role": "user", "content": "{{ bos_token }}{% for"}])")
            .text == "{{ bos_token }}{% for");
}

TEST_CASE("The generation tag marks what it holds", "[text]") {
  const ChatTemplate chat_template = fixture("generation.jinja");
  const RenderedChat chat = chat_template.render(input_of(kDialogue), kTokens);
  CHECK(chat.has_generation_tag);
  std::string marked;
  for (const auto& span : chat.spans) {
    if (span.is_generation) marked += chat.text.substr(span.begin, span.end - span.begin) + ";";
  }
  CHECK(marked.find("a1") != std::string::npos);
  CHECK(marked.find("q1") == std::string::npos);
  CHECK_FALSE(render("x", kDialogue).has_generation_tag);
}

TEST_CASE("Turns agree with prefix rendering where a template preserves prefixes", "[text]") {
  for (const char* name : {"tools_chatml.jinja", "macro_turns.jinja", "generation.jinja"}) {
    INFO(name);
    const ChatTemplate chat_template = fixture(name);
    const Json messages = Json::parse(kDialogue);
    for (const int i : {2, 4}) {
      Json before = Json::array();
      for (int k = 0; k < i; ++k) before.push_back(messages[static_cast<size_t>(k)]);
      Json with = before;
      with.push_back(messages[static_cast<size_t>(i)]);
      const std::string prompt = chat_template.render({before, nullptr, true, Json::object()}, kTokens).text;
      const std::string no_prompt = chat_template.render({before, nullptr, false, Json::object()}, kTokens).text;
      const RenderedChat chat = chat_template.render({with, nullptr, false, Json::object()}, kTokens);
      const std::string turn = dsft::test::turn_text(chat, i);
      REQUIRE(chat.text.starts_with(no_prompt));
      CHECK(no_prompt + turn == chat.text);
      CHECK(turn.starts_with(prompt.substr(no_prompt.size())));
    }
  }
}

TEST_CASE("A template says which variables and attributes it reads", "[text]") {
  const ChatTemplate chat_template = fixture("tools_chatml.jinja");
  CHECK(chat_template.reads_variable("tools"));
  CHECK(chat_template.reads_variable("enable_thinking"));
  CHECK_FALSE(chat_template.reads_variable("documents"));
  CHECK(chat_template.reads_attribute("tool_calls"));
  CHECK(ChatTemplate::parse("{{ m['tool_calls'] }}", "t").reads_attribute("tool_calls"));
  CHECK(ChatTemplate::parse("{{ m.get('tool_calls') }}", "t").reads_attribute("tool_calls"));
  CHECK_FALSE(fixture("generation.jinja").reads_attribute("tool_calls"));
  CHECK_FALSE(fixture("generation.jinja").reads_variable("tools"));
}

TEST_CASE("A checkpoint's template is found in its files, the named one for tools", "[text]") {
  const auto folder =
      std::filesystem::temp_directory_path() / ("dsft_chat_template_" + std::to_string(std::random_device{}()));
  std::filesystem::create_directories(folder);
  CHECK_FALSE(ChatTemplate::load(folder, "", false));
  std::ofstream(folder / "tokenizer_config.json")
      << R"({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]})";
  CHECK(ChatTemplate::load(folder, "", false)->source() == "D");
  CHECK(ChatTemplate::load(folder, "", true)->source() == "T");
  std::ofstream(folder / "chat_template.jinja") << "J";
  CHECK(ChatTemplate::load(folder, "", true)->source() == "J");
  std::ofstream(folder / "own.jinja") << "O";
  CHECK(ChatTemplate::load(folder, folder / "own.jinja", true)->source() == "O");
  CHECK_THROWS_AS(ChatTemplate::load(folder, folder / "missing.jinja", true), dsft::Error);
  std::filesystem::remove_all(folder);
}

TEST_CASE("Mutated templates end in a text or an error, never in a crash", "[text]") {
  std::mt19937 random(20240601);
  std::vector<std::string> sources;
  for (const auto& entry : std::filesystem::directory_iterator(fixture_path("text/chat_template"))) {
    if (entry.path().extension() == ".jinja")
      sources.push_back(read_fixture("text/chat_template/" + entry.path().filename().string()));
  }
  std::sort(sources.begin(), sources.end());
  const std::string_view inserts[] = {"{{",
                                      "}}",
                                      "{%",
                                      "%}",
                                      "-",
                                      "(",
                                      ")",
                                      "[",
                                      "]",
                                      "|",
                                      ".",
                                      "'",
                                      "\"",
                                      "~",
                                      "*",
                                      "**",
                                      "is",
                                      "not",
                                      "in",
                                      "for",
                                      "if",
                                      "messages",
                                      "loop",
                                      "ns",
                                      "99999",
                                      "{#",
                                      "\\",
                                      "\xff",
                                      "%}{% endfor %}",
                                      "{% set ns.x = ns %}",
                                      " recursive ",
                                      "loop(messages)"};
  const ChatInput input{Json::parse(kDialogue), nullptr, true, Json::object()};
  int rendered = 0;
  for (int i = 0; i < 1500; ++i) {
    std::string source = sources[random() % sources.size()];
    for (unsigned edits = 1 + random() % 4; edits > 0; --edits) {
      const size_t at = random() % (source.size() + 1);
      switch (random() % 4) {
        case 0:
          source.insert(at, inserts[random() % std::size(inserts)]);
          break;
        case 1:
          source.erase(at, 1 + random() % 8);
          break;
        case 2:
          source.insert(at, source.substr(random() % source.size(), random() % 60));
          break;
        default:
          if (at < source.size()) source[at] = static_cast<char>(random());
      }
      if (source.empty()) source = "x";
    }
    try {
      require_cover(ChatTemplate::parse(source, "mutant").render(input, kTokens));
      ++rendered;
    } catch (const dsft::Error&) {
    }
  }
  CHECK(rendered > 100);
}

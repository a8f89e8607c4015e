// What transformers 5.17 gives for the same folders, by PreTrainedTokenizerFast.from_pretrained and
// apply_chat_template.
#include <nlohmann/json.hpp>
#include <thread>

#include "io/json.h"
#include "support/require_error.h"
#include "support/temp_dir.h"
#include "text/chat_template.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_parser.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;
using Json = nlohmann::ordered_json;

namespace {

constexpr const char* kTokenizer = R"({"added_tokens": [
    {"id": 3, "content": "<s>", "special": true}, {"id": 4, "content": "</s>", "special": true},
    {"id": 5, "content": "<sep>", "special": true}, {"id": 6, "content": "<old>", "special": true},
    {"id": 7, "content": "<image>", "special": true}], "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}, "post_processor": null,
  "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []}})";

constexpr const char* kPrintTokens =
    "{{ bos_token }}|{{ eos_token }}|{{ sep_token }}|{{ image_token }}|{{ extra_token }}|{{ additional_special_tokens "
    "}}";

Json config_of(const std::string& chat_template) {
  return {{"added_tokens_decoder", Json::object()},
          {"bos_token", "<s>"},
          {"eos_token", {{"__type", "AddedToken"}, {"content", "</s>"}}},
          {"sep_token", "<sep>"},
          {"image_token", "<image>"},
          {"extra_special_tokens", {{"extra_token", "<x>"}}},
          {"chat_template", chat_template}};
}

text::ChatInput question() {
  text::ChatInput input;
  input.messages = Json::parse(R"([{"role": "user", "content": "x"}])");
  return input;
}

/// A checkpoint's text files.
struct Folder {
  test::TempDir folder;
  explicit Folder(const Json& config) {
    folder.write("tokenizer.json", kTokenizer);
    folder.write("tokenizer_config.json", config.dump());
  }
  std::string render(bool has_tools = false) const {
    const auto chat_template = text::ChatTemplate::load(folder.path(), "", has_tools);
    if (!chat_template) return "none";
    return chat_template->render(question(), text::Tokenizer::load(folder.path())).text;
  }
};

text::RenderedChat render(const std::string& source, const text::ChatInput& input) {
  return text::ChatTemplate::parse(source, "test").render(input, text::SpecialTokenMap{});
}

}  // namespace

TEST_CASE("A template sees all named special tokens", "[text]") {
  Json config = config_of(kPrintTokens);
  CHECK(Folder(config).render() == "<s>|</s>|<sep>|<image>|<x>|");
  const char* map = R"({"bos_token": "<old>", "sep_token": {"content": "<old>", "lstrip": false}})";
  Folder newer(config);
  newer.folder.write("special_tokens_map.json", map);
  CHECK(newer.render() == "<s>|</s>|<sep>|<image>|<x>|");
  config.erase("added_tokens_decoder");
  Folder older(config);
  older.folder.write("special_tokens_map.json", map);
  CHECK(older.render() == "<old>|</s>|<old>|<image>|<x>|");
}

TEST_CASE("The template is chosen from the files first, then from tokenizer_config.json", "[text]") {
  Folder several(config_of("config"));
  several.folder.write("additional_chat_templates/tool_use.jinja", "tools");
  several.folder.write("additional_chat_templates/rag.jinja", "rag");
  CHECK(several.render(/*has_tools=*/true) == "tools");
  CHECK(several.render() == "none");
  several.folder.write("chat_template.jinja", "own");
  CHECK(several.render(/*has_tools=*/true) == "tools");
  CHECK(several.render() == "own");
  Folder other(config_of("config"));
  other.folder.write("additional_chat_templates/default.jinja", "extra default");
  CHECK(other.render() == "extra default");
  Json named = config_of("");
  named["chat_template"] = {{"default", "by name"}, {"tool_use", "by name for tools"}};
  CHECK(Folder(named).render() == "by name");
  CHECK(Folder(named).render(/*has_tools=*/true) == "by name for tools");
}

TEST_CASE("A template file that is a folder or missing is an error of the user's", "[text]") {
  const test::TempDir folder;
  test::require_error(ErrorKind::kCheckpoint, {folder.path().string()},
                      [&] { text::ChatTemplate::load("", folder.path(), false); });
  test::require_error(ErrorKind::kCheckpoint, {"missing.jinja"},
                      [&] { text::ChatTemplate::load("", folder / "missing.jinja", false); });
}

TEST_CASE("A bos or eos token that the tokenizer does not have is refused", "[text]") {
  for (const char* role : {"bos_token", "eos_token"}) {
    Json config = config_of("x");
    config[role] = "<|nowhere|>";
    const Folder checkpoint(config);
    test::require_error(ErrorKind::kCheckpoint, {role, "<|nowhere|>", "tokenizer.json"},
                        [&] { text::Tokenizer::load(checkpoint.folder.path()); });
  }
}

TEST_CASE("A row's own kwargs are text of the row, the recipe's are words of its author", "[text]") {
  text::ChatInput input = question();
  input.kwargs = {{"persona", "<s>"}, {"both", "recipe"}};
  input.row_kwargs = {{"note", "<s>"}, {"both", "row"}};
  const auto chat = render("{{ persona }}-{{ note }}-{{ both }}", input);
  CHECK(chat.text == "<s>-<s>-row");
  std::string data;
  for (const auto& span : chat.spans)
    data += span.is_user_text ? chat.text.substr(span.begin, span.end - span.begin) : "";
  CHECK(data == "<s>row");
}

TEST_CASE("A row may be longer than what a template may make", "[text]") {
  text::ChatInput input = question();
  input.messages[0]["content"] = std::string(6 << 20, 'a');
  CHECK(render("<{{ messages[0].content }}>", input).text.size() == (6 << 20) + 2);
  CHECK_THROWS_WITH(render("{% for i in range(20) %}{{ messages[0].content }}{% endfor %}", input),
                    ContainsSubstring("64 MB of the row"));
  CHECK_THROWS_WITH(render("{{ 'a' * 5000000 }}", input), ContainsSubstring("past 4 MB"));
}

TEST_CASE("Integers past 64 bits are printed as Python prints them", "[text]") {
  text::ChatInput input = question();
  const io::JsonLimits limits{.keeps_long_integers = true};
  input.row_kwargs = io::parse_ordered_json(
      R"({"a": 12345678901234567890, "b": [-123456789012345678901234567890, 1e30]})", "test", ErrorKind::kData, limits);
  CHECK(render("{{ a }} {{ b }} {{ b | tojson }}", input).text ==
        "12345678901234567890 [-123456789012345678901234567890, 1e+30] [-123456789012345678901234567890, 1e+30]");
}

TEST_CASE("The time limit counts the work of the thread, not the time that passes", "[text]") {
  const text::jinja::Template parsed = text::jinja::parse("{% for i in range(1000) %}{{ i }}{% endfor %}");
  text::jinja::Interpreter interpreter(parsed, {.max_cpu_seconds = 0.2});
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK_NOTHROW(interpreter.run());
}

TEST_CASE("A message that is bound inside another's turn does not end that turn", "[text]") {
  text::ChatInput input;
  input.messages =
      Json::parse(R"([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "parts": [1]}])");
  const auto chat = render(
      "{% for m in messages %}[{% for p in m.parts or [] %}{% set first = messages[0] %}({{ first.content }}){% endfor "
      "%}"
      "{{ m.content }}]{% endfor %}",
      input);
  CHECK(chat.text == "[q][(q)a]");
  CHECK(dsft::test::turn_text(chat, 0) == "[q]");
  CHECK(dsft::test::turn_text(chat, 1) == "[(q)a]");
}

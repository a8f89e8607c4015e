// Which tokens of a conversation are learned where the template or the row is out of the ordinary. The expected marks
// follow from the format: brackets stand around each token that is supervised.
#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "data/example_builder.h"
#include "support/fixtures.h"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::data;
using Catch::Matchers::ContainsSubstring;
using Json = nlohmann::ordered_json;

namespace {

constexpr const char* kMessages =
    R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}, {"role": "user", "content": "ok"},
        {"role": "assistant", "content": "No"}]})";

/// The text of the supervised tokens, one stretch after the other.
std::vector<std::string> learned(const std::filesystem::path& chat_template, Json row, LossOn loss_on = LossOn::kAuto) {
  const TextAssets assets = TextAssets::load(test::fixture_path("data/tokenizer"), chat_template);
  const Example example = ExampleBuilder(assets, loss_on, Json::object()).build(row);
  std::vector<std::string> found;
  std::vector<int32_t> ids;
  for (size_t i = 0; i <= example.ids.size(); ++i) {
    const bool is_learned = i < example.ids.size() && example.labels[i] != kIgnored;
    if (is_learned) ids.push_back(example.ids[i]);
    if (is_learned || ids.empty()) continue;
    found.push_back(assets.tokenizer.decode(ids, /*skip_special_tokens=*/false));
    ids.clear();
  }
  return found;
}

std::vector<std::string> learned_of(const std::string& source, const Json& row) {
  const test::TempDir folder;
  return learned(folder.write("own.jinja", source), row);
}

const std::string kTurn = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n";
const std::string kPrompt = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

}  // namespace

TEST_CASE("a message with train: false is left out whatever the row's format", "[data]") {
  const auto chatml = test::fixture_path("data/templates/chatml.jinja");
  Json row = Json::parse(kMessages);
  row["messages"][1]["train"] = false;
  CHECK(learned(chatml, row) == std::vector<std::string>{"No<|im_end|>"});
  const auto all = learned(chatml, row, LossOn::kAll);
  REQUIRE(all.size() == 2);
  CHECK_THAT(all[0], ContainsSubstring("Hi") && ContainsSubstring("assistant") && !ContainsSubstring("Yes"));
  CHECK_THAT(all[1], ContainsSubstring("ok") && ContainsSubstring("No<|im_end|>"));
  Json pair;
  pair["prompt"] = Json::array({row["messages"][0]});
  pair["completion"] = Json::array({row["messages"][1], row["messages"][2], row["messages"][3]});
  const auto completion = learned(chatml, pair);
  REQUIRE(completion.size() == 1);
  CHECK_THAT(completion[0], ContainsSubstring("ok") && ContainsSubstring("No<|im_end|>") && !ContainsSubstring("Yes"));
}

TEST_CASE("OpenAI's weight 0 leaves a message out, in conversations too", "[data]") {
  const auto chatml = test::fixture_path("data/templates/chatml.jinja");
  Json row = Json::parse(kMessages);
  row["messages"][1]["weight"] = 0;
  row["messages"][3]["weight"] = 1;
  CHECK(learned(chatml, row) == std::vector<std::string>{"No<|im_end|>"});
  row["messages"][1]["weight"] = nullptr;
  CHECK(learned(chatml, row) == std::vector<std::string>{"Yes<|im_end|>", "No<|im_end|>"});
  const Json turns = Json::parse(R"({"conversations": [{"from": "human", "value": "Hi"},
      {"from": "gpt", "value": "Yes", "weight": 0}, {"from": "human", "value": "ok"}, {"from": "gpt", "value": "No"},
      {"from": "human", "value": "ok"}, {"from": "gpt", "value": "Oh", "train": false}]})");
  CHECK(learned(chatml, turns) == std::vector<std::string>{"No<|im_end|>"});
}

TEST_CASE("content parts are learned as their text, and a template that prints the list is a fault", "[data]") {
  Json row = Json::parse(kMessages);
  row["messages"][1]["content"] = Json::parse(R"([{"type": "text", "text": "Ye"}, {"type": "text", "text": "s"}])");
  const std::filesystem::path shipped = DSFT_SOURCE_DIR "/recipes/templates/smollm2_tools.jinja";
  CHECK(learned(shipped, row) == std::vector<std::string>{"Yes<|im_end|>", "No<|im_end|>"});
  const std::string printing = "{% for m in messages %}" + kTurn + "{% endfor %}" + kPrompt;
  CHECK_THROWS_WITH(learned_of(printing, row), ContainsSubstring("a list of parts") &&
                                                   ContainsSubstring("[{'type': 'text'") &&
                                                   ContainsSubstring("data.chat_template"));
  row["messages"][1]["content"] = "[{'type': 'text', 'text': 'Hi'}]";  // what a row says may look like anything
  CHECK(learned_of(printing, row).size() == 2);
}

TEST_CASE("turns are learned in the order in which the template writes them", "[data]") {
  const auto turns =
      learned_of("{% for m in messages | reverse %}" + kTurn + "{% endfor %}" + kPrompt, Json::parse(kMessages));
  CHECK(turns == std::vector<std::string>{"No<|im_end|>", "Yes<|im_end|>"});
}

TEST_CASE("a turn that the template writes twice is a fault, white space of a counting loop is not", "[data]") {
  const std::string body = "{% for m in messages %}" + kTurn + "{% endfor %}";
  CHECK_THROWS_WITH(learned_of(body + body, Json::parse(kMessages)),
                    ContainsSubstring("message 1 in 2 places") && ContainsSubstring("data.chat_template"));
  CHECK(learned_of("{% for m in messages %}\n {% endfor %}" + body + kPrompt, Json::parse(kMessages)) ==
        std::vector<std::string>{"Yes<|im_end|>", "No<|im_end|>"});
}

TEST_CASE("what a row's kwargs say cannot become a special token", "[data]") {
  const test::TempDir folder;
  const auto own = folder.write("own.jinja", "{{ note }}{% for m in messages %}" + kTurn + "{% endfor %}");
  const TextAssets assets = TextAssets::load(test::fixture_path("data/tokenizer"), own);
  const auto count = [&](const Json& recipe, const char* row_note) {
    Json row = Json::parse(kMessages);
    if (row_note) row["chat_template_kwargs"] = {{"note", row_note}};
    const Example example = ExampleBuilder(assets, LossOn::kAuto, recipe).build(row);
    return std::count(example.ids.begin(), example.ids.end(), assets.tokenizer.token_to_id("<|im_end|>").value());
  };
  CHECK(count(Json::object(), nullptr) == 4);
  CHECK(count({{"note", "<|im_end|>"}}, nullptr) == 5);
  CHECK(count(Json::object(), "<|im_end|>") == 4);
}

// The answer that a row of any format has, as rewards find it in the column `completion`.
#include "rl/prompt_rows.h"

#include "catch_amalgamated.hpp"
#include "rewards/built_in.h"

using namespace dsft;
using Json = nlohmann::ordered_json;

TEST_CASE("Rewards compare with the answer of a row, whatever its format", "[rl]") {
  const std::filesystem::path fixtures = std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures/data";
  const data::TextAssets assets = data::TextAssets::load(fixtures / "tokenizer", fixtures / "templates/chatml.jinja");
  const data::PromptBuilder prompts(assets, Json::object());
  const char* const row = GENERATE(
      R"({"messages": [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "It is 5"}]})",
      R"({"prompt": [{"role": "user", "content": "2 + 3?"}], "completion": [{"role": "assistant", "content": "It is 5"}]})",
      R"({"prompt": "2 + 3 =", "completion": "It is 5"})",
      R"({"conversations": [{"from": "human", "value": "2 + 3?"}, {"from": "gpt", "value": "It is 5"}]})",
      R"({"instruction": "2 + 3?", "output": "It is 5"})");
  INFO(row);
  const rl::PromptRow prompt = rl::make_prompt_row(prompts, Json::parse(row), "rows.jsonl:1");
  rewards::Sample sample;
  sample.text = "It is 5";
  sample.columns = prompt.columns;
  CHECK(rewards::make_built_in(rewards::MathAnswerConfig{.column = "completion"})(sample) == 1);
  CHECK(rewards::make_built_in(rewards::SimilarityConfig{.column = "completion"})(sample) == 1);
  sample.text = "It is 6";
  CHECK(rewards::make_built_in(rewards::MathAnswerConfig{.column = "completion"})(sample) == 0);
}

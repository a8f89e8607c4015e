#include "rewards/built_in.h"

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "rewards/math_answer.h"
#include "rewards/similarity.h"
#include "support/fixtures.h"
#include "support/require_error.h"

using namespace dsft;
using namespace dsft::rewards;
using nlohmann::ordered_json;

namespace {

const nlohmann::json& goldens(const char* section) {
  static const nlohmann::json all = nlohmann::json::parse(test::read_fixture("rewards/built_in.json"));
  return all.at(section);
}

Sample sample_of(std::string text, ordered_json columns = ordered_json::object()) {
  Sample sample;
  sample.completion = text;
  sample.text = std::move(text);
  sample.columns = std::move(columns);
  return sample;
}

Sample sample_of_ids(std::vector<int32_t> ids) {
  Sample sample = sample_of("");
  sample.completion_ids = std::move(ids);
  return sample;
}

double score(const BuiltInConfig& config, const Sample& sample) {
  const auto value = make_built_in(config)(sample);
  REQUIRE(value);
  return *value;
}

}  // namespace

TEST_CASE("The similarity ratio is difflib's, autojunk included", "[rewards]") {
  for (const auto& row : goldens("similarity")) {
    INFO(row.dump());
    const std::string a = row[0], b = row[1];
    REQUIRE(sequence_matcher_ratio(a, b, row[2]) == row[3].get<double>());
  }
  CHECK(score(SimilarityConfig{.column = "c"}, sample_of("abcd", {{"c", "bcde"}})) == 0.75);
}

TEST_CASE("The format reward gives what TRL's think_format_reward gives", "[rewards]") {
  for (const auto& row : goldens("think")) {
    INFO(row.dump());
    CHECK(score(FormatConfig{}, sample_of(row[0])) == row[1].get<double>());
    CHECK(score(ThinkFormatConfig{}, sample_of(row[0])) == row[1].get<double>());
  }
}

TEST_CASE("Lists of tags and regular expressions match as Python's re.match", "[rewards]") {
  for (const auto& row : goldens("tags")) {
    INFO(row.dump());
    CHECK(score(FormatConfig{.tags = row[0]}, sample_of(row[1])) == row[2].get<double>());
  }
  for (const auto& row : goldens("regex")) {
    INFO(row.dump());
    CHECK(score(FormatConfig{.regex = row[0]}, sample_of(row[1])) == row[2].get<double>());
  }
  test::require_error(ErrorKind::kUsage, {"(a", "faulty"}, [] { make_built_in(FormatConfig{.regex = "(a"}); });
}

TEST_CASE("An expression that takes too long fails that sample only", "[rewards]") {
  const RewardFunction format = make_built_in(FormatConfig{.regex = "(a+)+$"});
  test::require_error(ErrorKind::kUsage, {"too much work"}, [&] { format(sample_of(std::string(40, 'a') + "b")); });
  CHECK(format(sample_of("aaa")) == 1);
}

TEST_CASE("The overlong punishment and the repetition penalty are TRL's", "[rewards]") {
  for (const auto& row : goldens("overlong")) {
    INFO(row.dump());
    const SoftOverlongConfig config{row[1], row[2]};
    CHECK(score(config, sample_of_ids(std::vector<int32_t>(row[0].get<size_t>(), 1))) == row[3].get<double>());
  }
  for (const auto& row : goldens("repetition")) {
    INFO(row.dump());
    const RepetitionPenaltyConfig config{row[1], row[2]};
    CHECK(score(config, sample_of_ids(row[0])) == row[3].get<double>());
  }
}

TEST_CASE("Characters and words are counted as Python counts them", "[rewards]") {
  for (const auto& row : goldens("counts")) {
    INFO(row.dump());
    const Sample sample = sample_of(row[0]);
    for (const int64_t offset : {-1, 0, 1}) {
      const int64_t characters = row[1].get<int64_t>() + offset, words = row[2].get<int64_t>() + offset;
      const auto exactly = [](LengthUnit unit, int64_t n) { return LengthConfig{unit, n, n, 0}; };
      CHECK(score(exactly(LengthUnit::kCharacters, characters), sample) == (offset == 0));
      CHECK(score(exactly(LengthUnit::kWords, words), sample) == (offset == 0));
    }
    CHECK(score(UniqueCharactersConfig{}, sample) == row[3].get<double>());
  }
}

TEST_CASE("The length reward falls over its ramp on both sides", "[rewards]") {
  const LengthConfig config{.unit = LengthUnit::kTokens, .min = 4, .max = 6, .ramp = 4};
  const std::vector<double> expected = {0, 0.25, 0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0};
  for (size_t n = 0; n < expected.size(); ++n)
    CHECK(score(config, sample_of_ids(std::vector<int32_t>(n, 7))) == expected[n]);
}

TEST_CASE("JSON is valid where Python reads it", "[rewards]") {
  for (const auto& row : goldens("json_valid")) {
    INFO(row.dump());
    const Sample sample = sample_of(row[0]);
    const std::string kind = row[1];
    CHECK(score(JsonValidConfig{}, sample) == (kind != "none"));
    CHECK(score(JsonValidConfig{.type = JsonType::kObject}, sample) == (kind == "object"));
    CHECK(score(JsonValidConfig{.type = JsonType::kArray}, sample) == (kind == "array"));
  }
  const JsonValidConfig fenced{.fenced = true, .keys = {"a", "b"}};
  CHECK(score(fenced, sample_of("```json\n{\"a\": 1, \"b\": 2}\n```\n")) == 1);
  CHECK(score(fenced, sample_of("{\"a\": 1, \"b\": 2}")) == 1);
  CHECK(score(fenced, sample_of("```json\n{\"a\": 1}\n```")) == 0);
  CHECK(score(fenced, sample_of("``````")) == 0);
  CHECK(score(fenced, sample_of("```\n```")) == 0);
  CHECK(score(JsonValidConfig{}, sample_of("```json\n{}\n```")) == 0);
  CHECK(score(JsonValidConfig{}, sample_of(std::string(200'000, '['))) == 0);
}

TEST_CASE("Answers in mathematics are judged as math_verify judges them", "[rewards]") {
  for (const auto& row : goldens("math")) {
    INFO(row.dump());
    const std::string answer = row[0], right = row[1];
    const double expected = row[2];
    CHECK(score_math_answer("So it is \\boxed{" + answer + "}.", right, {}) == expected);
    CHECK(score_math_answer("<answer>" + answer + "</answer>", right, {}) == expected);
    CHECK(score_math_answer("2 + 2\n#### " + answer + "\n", "3 apples\n#### " + right, {}) == expected);
  }
  // spellings that it does not take for numbers
  CHECK(score_math_answer("\\boxed{1e3}", "1000", {}) == 1);
  CHECK(score_math_answer("\\boxed{5.}", "5", {}) == 1);
  CHECK(score_math_answer("\\boxed{10\\,000}", "10000", {}) == 1);
  for (const char* mixed : {"1 3/4", "1\\frac{3}{4}", "1 \\frac{3}{4}", "1  3/4 cups", "\\frac{7}{4}"}) {
    INFO(mixed);
    CHECK(score_math_answer(concat("\\boxed{", mixed, "}"), "1.75", {}) == 1);
    CHECK(score_math_answer(concat("\\boxed{-", mixed, "}"), "-1.75", {}) == 1);
    CHECK(score_math_answer("\\boxed{1.75}", mixed, {}) == 1);
  }
  for (const char* other : {"(1) 3/4", "2^0 3/4", "1.0 3/4"}) {  // products, or nothing
    INFO(other);
    CHECK(score_math_answer(concat("\\boxed{", other, "}"), "1.75", {}) == 0);
  }
}

TEST_CASE("An answer is taken from the strongest mark, and the last of its kind", "[rewards]") {
  CHECK(find_marked_answer("#### 1\n<answer>2</answer> \\boxed{3}") == "3");
  CHECK(find_marked_answer("\\boxed{1} \\boxed{\\frac{2}{3}} \\boxed{4") == "\\frac{2}{3}");
  CHECK(find_marked_answer("<answer>1</answer><answer>2</answer> #### 3") == "2");
  CHECK(find_marked_answer("#### 1\n#### 2 \nthree") == " 2 ");
  CHECK(find_marked_answer("<answer>1") == std::nullopt);
  CHECK(find_marked_answer("####\n") == std::nullopt);
  CHECK(find_marked_answer("\\boxed{\\boxed{5}}") == "5");
}

TEST_CASE("Without a mark the last number of the text is the answer", "[rewards]") {
  const auto is_right = [](const std::string& text, const std::string& right) {
    return score_math_answer(text, right, {}) == 1;
  };
  CHECK(is_right("3 apples and 4 pears are 7 fruits.", "7"));
  CHECK(is_right("It costs $1,234.50.", "1234.5"));
  CHECK(is_right("the range 3-5", "5"));
  CHECK(is_right("it sinks to -5", "-5"));
  CHECK(is_right("that is **12**.", "12"));
  CHECK(is_right("so \\(\\frac{3}{4}\\)", "0.75"));
  CHECK(is_right("we get 3/4", "0.75"));
  CHECK(is_right("about 50%", "0.5"));
  CHECK(is_right("-$5 in all", "-5"));
  CHECK(is_right("x2 = 9, H2", "9"));
  CHECK(is_right("The answer is 1 3/4", "1.75"));
  CHECK(is_right("that is -1 3/4 cups", "-1.75"));
  CHECK(is_right("so 2\\frac{1}{3} or 2 \\frac{1}{3}.", "7/3"));
  CHECK(is_right("1,000 1/2", "1000.5"));
  CHECK(is_right("It is 3.2e5", "320000"));
  CHECK(is_right("It is 1.5E-3.", "0.0015"));
  CHECK(is_right("about 2e+3 m", "2000"));
  CHECK(is_right("1. 3/4", "0.75"));   // a list
  CHECK(is_right("1.5 3/4", "0.75"));  // no mixed number
  CHECK(is_right("H2 3/4", "0.75"));
  CHECK(is_right("5 3", "3"));
  CHECK(is_right("3 eggs", "3"));
  CHECK(is_right("1.5/2", "0.75"));
  CHECK(is_right("<answer>It is 1 3/4 cups</answer>", "1.75"));
  CHECK_FALSE(is_right("seven", "7"));
  CHECK_FALSE(is_right("", "7"));
  CHECK_FALSE(is_right("7 then 8", "7"));
  CHECK(is_right("<answer>It is 7 dollars in 1 purse</answer>", "1"));
}

TEST_CASE("Two completions are compared without a right answer by the same rule", "[rewards]") {
  CHECK(find_math_answer("so \\boxed{7}, not 8") == "7");
  CHECK(find_math_answer("3 apples and 4 pears are 7 fruits.") == "7");
  CHECK(find_math_answer("seven") == std::nullopt);
  CHECK(find_math_answer("<answer> </answer> 5") == std::nullopt);
  const auto are_same = [](const std::string& a, const std::string& b) {
    const auto p = find_math_answer(a), g = find_math_answer(b);
    CHECK(are_same_math_answer(*p, *g, 1e-6) == are_same_math_answer(*g, *p, 1e-6));
    return are_same_math_answer(*p, *g, 1e-6);
  };
  CHECK(are_same("\\boxed{1/2}", "it is 0.5"));
  CHECK(are_same("50%", "#### 0.5"));
  CHECK(are_same("<answer>It costs 5 dollars</answer>", "5"));
  CHECK(are_same("\\boxed{\\text{Paris}}", "<answer>paris</answer>"));
  CHECK_FALSE(are_same("\\boxed{\\text{Paris}}", "<answer>Rome</answer>"));
  CHECK_FALSE(are_same("\\boxed{\\text{Paris}}", "5"));
  CHECK_FALSE(are_same("5", "5.01"));
}

TEST_CASE("Answers that are no numbers are compared as text", "[rewards]") {
  CHECK(score_math_answer("\\boxed{\\text{Paris}}", "paris", {}) == 1);
  CHECK(score_math_answer("<answer> B. </answer>", "B", {}) == 1);
  CHECK(score_math_answer("\\boxed{(1, 2)}", "(1,2)", {}) == 1);
  CHECK(score_math_answer("\\boxed{x^2 + 1}", "x^2+1", {}) == 1);
  CHECK(score_math_answer("\\boxed{C}", "B", {}) == 0);
}

TEST_CASE("Partial credit falls with the relative distance", "[rewards]") {
  const MathAnswerConfig partial{.partial = true};
  CHECK(score_math_answer("#### 90", "100", partial) == 0.9);
  CHECK(score_math_answer("#### 150", "100", partial) == 0.5);
  CHECK(score_math_answer("#### 300", "100", partial) == 0);
  CHECK(score_math_answer("#### -50", "-100", partial) == 0.5);
  CHECK(score_math_answer("#### 0.1", "0", partial) == 0);
  CHECK(score_math_answer("#### 0", "0", partial) == 1);
  CHECK(score_math_answer("#### x", "100", partial) == 0);
  CHECK(score_math_answer("#### 90", "100", {}) == 0);
  CHECK(score_math_answer("#### 100.4", "100", {.tolerance = 0.5}) == 1);
  // a percentage beside a number is read as that number and as its hundredth
  CHECK(score_math_answer("#### 50%", "0.5", partial) == 1);
  CHECK(score_math_answer("#### 49%", "0.5", partial) == Catch::Approx(0.98));
  CHECK(score_math_answer("#### 49%", "50", partial) == Catch::Approx(0.98));
  CHECK(score_math_answer("#### 0.49", "50%", partial) == Catch::Approx(0.98));
  CHECK(score_math_answer("#### 49", "50%", partial) == Catch::Approx(0.98));
  CHECK(score_math_answer("#### 49%", "50%", partial) == Catch::Approx(0.98));
  CHECK(score_math_answer("#### 49%", "0", partial) == 0);
}

TEST_CASE("Hostile answers take neither long nor the stack", "[rewards]") {
  for (const std::string piece : {"\\boxed{", "{", "(", "-", "\\frac{", "\\frac", "1/", "^", "\\text{", "9", "1,000,",
                                  "\\sqrt[", "}", "9 ", "9 9/", "9e"}) {
    std::string text;
    while (text.size() < 100'000) text += piece;
    INFO(piece);
    CHECK(score_math_answer(text, "5", {}) == 0);
    CHECK(score_math_answer(text + text + text, "Paris", {}) == 0);
    CHECK(score_math_answer("\\boxed{" + text.substr(0, 4000) + "}", "5", {}) == 0);
    CHECK(score_math_answer("<answer>" + text + "</answer>", "5", {}) == 0);
  }
}

TEST_CASE("The right answer comes from a column, which may hold null", "[rewards]") {
  const RewardFunction math = make_built_in(MathAnswerConfig{});
  CHECK(math(sample_of("#### 5", {{"answer", 5}})) == 1);
  CHECK(math(sample_of("#### 5", {{"answer", "two and three\n#### 5"}})) == 1);
  CHECK(math(sample_of("#### 5", {{"answer", nullptr}})) == std::nullopt);
  test::require_error(ErrorKind::kData, {"no column `answer`"}, [&] { math(sample_of("5", {{"solution", 5}})); });
  test::require_error(ErrorKind::kData, {"`answer`", "array"}, [&] { math(sample_of("5", {{"answer", {1, 2}}})); });
}

TEST_CASE("A column that holds messages is what the last of them says", "[rewards]") {
  const RewardFunction math = make_built_in(MathAnswerConfig{}), similarity = make_built_in(SimilarityConfig{});
  const ordered_json user = {{"role", "user"}, {"content", "9"}};
  const ordered_json answer = {{"role", "assistant"}, {"content", "#### 5"}};
  ordered_json parts = {{"role", "assistant"}};
  parts["content"] = ordered_json::parse(R"([{"type": "text", "text": "##"}, {"type": "text", "text": "## 5"}])");
  for (const ordered_json& column :
       {answer, ordered_json::array({answer}), ordered_json::array({user, answer}), parts}) {
    INFO(column.dump());
    CHECK(math(sample_of("#### 5", {{"answer", column}})) == 1);
    CHECK(math(sample_of("#### 9", {{"answer", column}})) == 0);
    CHECK(similarity(sample_of("#### 5", {{"answer", column}})) == 1);
  }
  CHECK(math(sample_of("5", {{"answer", {{"role", "assistant"}, {"content", nullptr}}}})) == std::nullopt);
  test::require_error(ErrorKind::kData, {"`answer`", "a message of number"}, [&] {
    math(sample_of("5", {{"answer", {{"role", "assistant"}, {"content", 5}}}}));
  });
  parts["content"] = ordered_json::parse(R"([{"type": "image"}])");
  test::require_error(ErrorKind::kData, {"`answer`", "no text"}, [&] { math(sample_of("5", {{"answer", parts}})); });
}

TEST_CASE("Tool calls are compared with a column in any of its forms", "[rewards]") {
  const RewardFunction calls = make_built_in(ToolCallConfig{});
  const ordered_json call = {{"name", "f"}, {"arguments", {{"a", 1}, {"b", "x"}}}};
  const std::string right =
      "Sure.\n<tool_call>\n{\"arguments\": {\"b\": \"x\", \"a\": 1.0}, \"name\": \"f\"}\n</tool_call>";
  const std::string wrong = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 2, \"b\": \"x\"}}</tool_call>";
  ordered_json message = {{"role", "assistant"}};
  message["tool_calls"] = ordered_json::array({{{"type", "function"}, {"function", call}}});
  const ordered_json messages = ordered_json::array({{{"role", "user"}, {"content", "f!"}}, message});
  for (const ordered_json& column : {ordered_json::array({call}), call, message, messages, ordered_json(call.dump())}) {
    INFO(column.dump());
    CHECK(calls(sample_of(right, {{"tool_calls", column}})) == 1);
    CHECK(calls(sample_of(wrong, {{"tool_calls", column}})) == 0);
    CHECK(calls(sample_of(right + right, {{"tool_calls", column}})) == 0);
    CHECK(calls(sample_of("no call", {{"tool_calls", column}})) == 0);
  }
  CHECK(calls(sample_of("no call", {{"tool_calls", ordered_json::array()}})) == 1);
  CHECK(calls(sample_of(right, {{"tool_calls", ordered_json::array()}})) == 0);
  CHECK(calls(sample_of(right, {{"tool_calls", nullptr}})) == std::nullopt);
  Sample marked = sample_of("{...}", {{"tool_calls", call}});
  marked.marked_text = right;
  CHECK(calls(marked) == 1);
  test::require_error(ErrorKind::kData, {"number"}, [&] { calls(sample_of(right, {{"tool_calls", 3}})); });
}

#include "text/regex.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "support/fixtures.h"
#include "text/split_pattern.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<std::string> split(const std::string& expression, const std::string& text) {
  std::vector<text::PatternPart> parts;
  text::SplitPattern(expression, "a test").find_parts(text, parts);
  std::vector<std::string> words;
  for (const auto& part : parts) {
    if (part.begin < part.end) words.push_back(text.substr(part.begin, part.end - part.begin));
  }
  return words;
}

}  // namespace

TEST_CASE("Expressions mean what they mean to the tokenizers library", "[text]") {
  const auto cases = nlohmann::json::parse(test::read_fixture("text/oniguruma.json"));
  REQUIRE(cases.size() > 200);
  for (const auto& row : cases) {
    INFO(row["expression"] << " on " << row["text"]);
    CHECK(split(row["expression"], row["text"]) == row["parts"].get<std::vector<std::string>>());
  }
}

TEST_CASE("What cannot be said to PCRE2 is refused by name", "[text]") {
  const auto refused = [](const std::string& expression, const std::string& name) {
    INFO(expression);
    CHECK_THROWS_WITH(text::Regex(expression, "tokenizer.json: pre_tokenizer"),
                      ContainsSubstring("tokenizer.json: pre_tokenizer") && ContainsSubstring(name));
  };
  refused("[a-z&&[^b]]", "&&");
  refused("[a[^b]]", "a character class inside a character class");
  refused("[a-[bc]]", "a character class inside a character class");
  refused("a{1,3}+", "{1,3}+");
  refused("a{2}?", "{2}?");
  refused("(?m).", "(?m)");
  refused("(?s:.)", "(?s)");
  refused("[\\W]", "\\W in a character class");
  refused("\\v", "\\v");
  refused("[[:graph:]]", "[:graph:]");
}

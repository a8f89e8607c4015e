#include "report/completion_tables.h"

#include "catch_amalgamated.hpp"
#include "report/newest_records.h"
#include "support/temp_dir.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;
using Json = nlohmann::ordered_json;

namespace {

Json record(int step, const std::string& prompt, const std::string& completion) {
  return {
      {"step", step},      {"prompt", prompt}, {"completion", completion}, {"rewards", {{"r", 0.5}, {"s", nullptr}}},
      {"agent", "solver"}, {"reward", 0.5},    {"advantage", -1.25}};
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("completions of one prompt share a table", "[report]") {
  const std::string html = report::draw_completions({record(1, "a", "x"), record(1, "a", "y"), record(1, "b", "z")});
  CHECK(count(html, "<table>") == 2);
  CHECK(count(html, "<tr>") == 2 + 3);
  for (const char* part : {"<th class=\"number\">r</th>", "<th>agent</th>", "solver", "-1.25"})
    CHECK_THAT(html, ContainsSubstring(part));
  CHECK(report::draw_completions({}).empty());
}

TEST_CASE("completions of an evaluation stand apart from those of the update before it", "[report]") {
  Json judged = record(4, "a", "x");
  judged["evaluation"] = true;
  const std::string html = report::draw_completions({record(4, "a", "y"), judged});
  CHECK(count(html, "<table>") == 2);
  CHECK_THAT(html, ContainsSubstring(">update 4<") && ContainsSubstring(">evaluation after update 4<") &&
                       !ContainsSubstring("<th>evaluation"));
}

TEST_CASE("long texts are cut between characters", "[report]") {
  std::string text = "a";
  for (int i = 0; i < 5000; ++i) text += "\xc3\xa9";
  const std::string html = report::draw_completions({record(1, "p", text)});
  CHECK_THAT(html, ContainsSubstring("\xc3\xa9<span class=\"role\"> … and 4002 more bytes"));
  // what counts is the page: a quote is six bytes of it
  CHECK_THAT(report::draw_completions({record(1, "p", std::string(2000, '"'))}),
             ContainsSubstring("&quot;<span class=\"role\"> … and 1000 more bytes"));
}

TEST_CASE("a prompt of many messages is cut as a whole", "[report]") {
  Json many = record(1, "p", "x");
  many["prompt"] = Json::array();
  for (int i = 0; i < 500; ++i) many["prompt"].push_back({{"role", "user"}, {"content", std::string(100, '<')}});
  const std::string html = report::draw_completions({many});
  CHECK(html.size() < 8000);
  CHECK_THAT(html, ContainsSubstring("&lt;</pre>") && ContainsSubstring(" more messages</div>"));
}

TEST_CASE("of completions without end the newest are shown, in bounded space", "[report]") {
  std::vector<Json> records;
  for (int i = 0; i < 200; ++i)
    records.push_back(record(i / 100, "p", "number " + std::to_string(i) + std::string(9000, '\'')));
  for (int i = 0; i < 2000; ++i) records.back()["field " + std::to_string(i)] = std::string(50, '&');
  for (const bool is_odd : {true, false}) {  // a head of 2000 fields leaves no room for any
    if (!is_odd) records.pop_back();
    const std::string html = report::draw_completions(records);
    CHECK(html.size() < 257'000);
    CHECK(html.empty() == is_odd);
    CHECK((html.find("number 198") != std::string::npos) == !is_odd);
    CHECK(html.find("number 99") == std::string::npos);
  }
}

TEST_CASE("odd records are shown as far as they go", "[report]") {
  const std::string nothing = report::draw_completions({Json::object()});
  CHECK_THAT(nothing, ContainsSubstring("<td class=\"text\"><pre>null</pre></td><td class=\"number\">–</td>"));
  const std::string no_rewards = report::draw_completions({Json{{"rewards", 3}, {"completion", "said"}}});
  CHECK_THAT(no_rewards, ContainsSubstring("said") && !ContainsSubstring("<th class=\"number\">rewards"));
  Json odd = record(1, "p", "x");
  odd["prompt"] = {{{"role", 7}, {"content", {{"type", "text"}}}}, "no message", {{"content", "asked"}}};
  const std::string html = report::draw_completions({odd});
  CHECK_THAT(html, ContainsSubstring("<div class=\"role\">7</div><pre>{&quot;type&quot;:&quot;text&quot;}</pre>") &&
                       ContainsSubstring("</pre><pre>asked</pre>") && !ContainsSubstring("no message"));
}

TEST_CASE("the newest records of a growing file are its last whole lines", "[report]") {
  test::TempDir folder;
  const auto path = folder.write("f.jsonl", "{\"n\":1}\n{\"n\":2}\nno object\n{\"n\":3}\n{\"n\":4}\n{\"n\":");
  const auto numbers = [&](size_t most, uint64_t most_bytes) {
    std::vector<int> all;
    for (const Json& object : report::newest_records(path, most, most_bytes)) all.push_back(object.at("n").get<int>());
    return all;
  };
  CHECK(numbers(10, 1000) == std::vector<int>{1, 2, 3, 4});
  CHECK(numbers(2, 1000) == std::vector<int>{3, 4});
  CHECK(numbers(10, 20) == std::vector<int>{4});
  CHECK(report::newest_records(folder / "none", 10, 10).empty());
}

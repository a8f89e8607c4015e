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

TEST_CASE("long texts are cut between characters, and odd records are shown as far as they go", "[report]") {
  std::string text = "a";
  for (int i = 0; i < 5000; ++i) text += "\xc3\xa9";
  const std::string html = report::draw_completions({record(1, "p", text), Json::object(), {{"rewards", 3}}});
  CHECK_THAT(html, ContainsSubstring("\xc3\xa9<span class=\"role\"> … and 4002 more bytes"));
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

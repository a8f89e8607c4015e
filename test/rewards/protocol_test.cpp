#include "rewards/protocol.h"

#include "catch_amalgamated.hpp"
#include "support/require_error.h"

using namespace dsft;
using namespace dsft::rewards;

TEST_CASE("A greeting has a protocol and a name", "[rewards]") {
  CHECK(read_greeting(R"({"protocol": 1, "name": "style", "more": [1]})") == "style");
  CHECK(read_greeting(R"({"name": "", "protocol": 1.0})").empty());
  for (const char* line :
       {"{\"protocol\": 2, \"name\": \"a\"}", "{\"name\": \"a\"}", "{\"protocol\": \"1\", \"name\": \"a\"}",
        "{\"protocol\": 1}", "{\"protocol\": 1, \"name\": 3}", "[1]", "loading", "",
        "{\"protocol\": 1, \"name\": \"\xff\"}"}) {
    INFO(line);
    test::require_error(ErrorKind::kData, {}, [&] { read_greeting(line); });
  }
  test::require_error(ErrorKind::kData, {"protocol 2", "not 1"},
                      [] { read_greeting(R"({"protocol": 2, "name": "a"})"); });
}

TEST_CASE("A reply gives a number or null for each sample", "[rewards]") {
  using Values = std::vector<std::optional<double>>;
  CHECK(read_reply(R"({"id": 3, "rewards": [1, null, -0.5, 1e-3]})", 3, 4) == Values{1.0, std::nullopt, -0.5, 1e-3});
  CHECK(read_reply(R"({"rewards": [], "note": {}, "id": 0})", 0, 0).empty());
  const auto refused = [](const std::string& line, const std::string& part) {
    INFO(line);
    test::require_error(ErrorKind::kData, {part}, [&] { read_reply(line, 3, 2); });
  };
  refused(R"({"id": 3, "rewards": [1]})", "1 reward for 2 completions");
  refused(R"({"id": 4, "rewards": [1, 2]})", "answered request 4 where request 3");
  refused(R"({"rewards": [1, 2]})", "without the `id` of the request, which was 3");
  refused(R"({"id": "3", "rewards": [1, 2]})", "answered request \"3\"");
  refused(R"({"id": 3, "rewards": [1, "2"]})", "\"2\" as reward 2");
  refused(R"({"id": 3, "rewards": [NaN, 2]})", "JSON has no NaN; a reward is a finite number, or null");
  refused(R"({"id": 3, "rewards": [true, 2]})", "true as reward 1");
  refused(R"({"id": 3, "rewards": [[1], 2]})", "[1] as reward 1");
  refused(R"({"id": 3, "rewards": [1, 2})", "standard output is for one JSON object");
  refused(R"({"id": 3, "rewards": [1e999, 2]})", "1e999");
  refused(R"({"id": 3, "rewards": 1})", "without a list");
  refused(R"({"id": 3})", "without a list");
  refused(R"({"id": 3, "rewards": [1, 2]} {})", "standard error");
  refused(R"({"id": 3, "rewards": [1, 2)", "standard error");
  refused(R"([3])", "no JSON object");
  refused("\xff", "standard error");
  refused("{\"a\":" + std::string(100'000, '['), "(100005 bytes)");
}

TEST_CASE("A request has one entry for each sample in every list", "[rewards]") {
  Sample first, second;
  first.prompt = "2 + 2 \"is\"\n";
  first.completion = "vier \xc3\xa4";
  first.completion_ids = {5, 6};
  first.columns = {{"answer", 4}, {"kind", "sum"}};
  second.prompt = nlohmann::ordered_json::array({{{"role", "user"}, {"content", "hi"}}});
  second.completion = "broken \xff";
  second.columns = {{"answer", {1, 2}}};
  CHECK(
      write_request(7, 3, std::vector{first, second}) ==
      R"({"id":7,"step":3,"prompts":["2 + 2 \"is\"\n",[{"role":"user","content":"hi"}]],"completions":["vier ä","broken �"],)"
      R"("completion_ids":[[5,6],[]],"columns":{"answer":[4,[1,2]],"kind":["sum",null]}})"
      "\n");
}

TEST_CASE("Lines are put together from pieces, and endless ones refused", "[rewards]") {
  LineReader reader;
  for (const char c : std::string("ab\r\n\ncd")) reader.add({&c, 1}, 4);
  CHECK(reader.next() == "ab");
  CHECK(reader.next() == "");
  CHECK(reader.next() == std::nullopt);
  CHECK_FALSE(reader.is_empty());
  CHECK(reader.beginning() == "cd");
  reader.add("ef\nx", 4);
  CHECK(reader.next() == "cdef");
  reader.add("yzw", 4);
  test::require_error(ErrorKind::kData, {"more than 4 bytes", "`xyzwv`"}, [&] { reader.add("v", 4); });
}

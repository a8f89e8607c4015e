// Goldens: scripts/goldens/chat_template.py (jinja2 as transformers sets it up).
#include <ctime>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "support/fixtures.h"
#include "text/chat_template.h"

namespace {

using dsft::text::ChatInput;
using dsft::text::ChatTemplate;
using dsft::text::Json;

Json read_json(const std::string& name) {
  return Json::parse(dsft::test::read_fixture("text/chat_template/" + name));
}

std::string render(const std::string& source, const Json& kwargs = Json::object()) {
  const ChatInput input{Json::parse(R"([{"role": "user", "content": "hi"}])"), nullptr, false, kwargs};
  return ChatTemplate::parse(source, "test").render(input, dsft::text::SpecialTokenMap{{"bos_token", "<s>"}}).text;
}

std::string failure(const std::string& source) {
  try {
    return "no failure, but: " + render(source);
  } catch (const dsft::Error& error) {
    return error.message();
  }
}

}  // namespace

TEST_CASE("Every piece of the template language gives what jinja2 gives, or fails where it fails", "[text]") {
  const Json golden = read_json("language.json");
  for (const Json& piece : golden["cases"]) {
    const std::string source = piece[0];
    INFO(source);
    if (piece.size() == 1) {
      CHECK_THROWS_AS(render(source, golden["context"]), dsft::Error);
    } else {
      std::string text;
      CHECK_NOTHROW(text = render(source, golden["context"]));
      CHECK(text == piece[1].get<std::string>());
    }
  }
}

TEST_CASE("A syntax error names the template, its line and its column", "[text]") {
  CHECK(failure("a\nb {% if x %}\n{{ 1 + }}") == "chat template test, line 3, column 8: unexpected '}}'");
  CHECK_THAT(failure("{% include 'x' %}"), Catch::Matchers::ContainsSubstring("'include' is not supported"));
  CHECK_THAT(failure("{% if x %}"), Catch::Matchers::ContainsSubstring("'endif' is missing"));
  CHECK_THAT(failure("{% nope %}"), Catch::Matchers::ContainsSubstring("unknown tag 'nope'"));
}

TEST_CASE("A failing expression names its line and what Python would say", "[text]") {
  CHECK(failure("\n\n{{ messages[0].nope.more }}") ==
        "chat template test, line 3, column 20: 'dict object' has no attribute 'nope'");
  CHECK_THAT(failure("{{ nope + 1 }}"), Catch::Matchers::ContainsSubstring("'nope' is undefined"));
  CHECK_THAT(failure("{{ raise_exception('roles must alternate') }}"),
             Catch::Matchers::ContainsSubstring("roles must alternate"));
}

TEST_CASE("A template that never ends or grows without bound is stopped by name", "[text]") {
  using Catch::Matchers::ContainsSubstring;
  const std::string loops = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
  // the clock may come first where the sanitizers slow it down
  CHECK_THAT(failure(loops), ContainsSubstring("steps") || ContainsSubstring("longer than 2 s"));
  CHECK_THAT(failure("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), ContainsSubstring("deeper than 64"));
  CHECK_THAT(failure("{{ 'a' * 1000000000 }}"), ContainsSubstring("4 MB"));
  CHECK_THAT(
      failure("{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}"),
      ContainsSubstring("4 MB"));
  CHECK_THAT(failure("{% for i in range(1000) %}{{ 'a' * 10000 }}{% endfor %}"), ContainsSubstring("4 MB"));
  CHECK_THAT(failure("{{ range(1000000) }}"), ContainsSubstring("100000"));
  CHECK_THAT(failure("{{ [0] * 10000000 }}"), ContainsSubstring("elements"));
  CHECK_THAT(failure("{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}"),
             ContainsSubstring("nests deeper"));
  CHECK_THAT(failure("{{ 9223372036854775807 + 1 }}"), ContainsSubstring("64 bits"));
  CHECK_THAT(failure("{{ " + std::string(500, '(') + "1" + std::string(500, ')') + " }}"),
             ContainsSubstring("nest deeper"));
  std::string sum = "{{ 1";
  for (int i = 0; i < 5000; ++i) sum += "+1";
  CHECK_THAT(failure(sum + " }}"), ContainsSubstring("levels"));
  CHECK_THAT(failure(std::string((1 << 20) + 1, 'x')), ContainsSubstring("larger"));
}

TEST_CASE("Sharing, keeping and very large parts are bounded by name", "[text]") {
  using Catch::Matchers::ContainsSubstring;
  const std::string doubled =
      "{% set ns = namespace(a=[1], f=1) %}{% for i in range(100) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}";
  CHECK_THAT(failure(doubled), ContainsSubstring("parts"));
  CHECK_THAT(failure("{{ ['a' * 4000000] * 1000 }}"), ContainsSubstring("parts"));
  CHECK_THAT(failure("{{ ('a,' * 300000).split(',') | length }}"), ContainsSubstring("parts"));
  CHECK_THAT(failure("{% set ns = namespace(f=1) %}{% for i in range(200) %}{% set ns.f = [ns.f].index %}{% endfor %}"),
             ContainsSubstring("nests deeper"));
  CHECK_THAT(failure("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}"), ContainsSubstring("nests deeper"));
}

TEST_CASE("Integers at the edge of 64 bits give what Python gives", "[text]") {
  CHECK(render("{{ range(0, 9223372036854775807, 4611686018427387904) | list }}") == "[0, 4611686018427387904]");
  CHECK(render("{{ range(-9223372036854775807, 9223372036854775807, 9223372036854775807) | list }}") ==
        "[-9223372036854775807, 0]");
  CHECK(render("{{ (-9223372036854775807 - 1) % 3 }}") == "1");
  CHECK(render("{{ 'abc' | truncate(9223372036854775807, leeway=9223372036854775807) }}") == "abc");
  CHECK(render("{{ 'abc'.center(-9223372036854775807 - 1) ~ 'd'.zfill(-9223372036854775807 - 1) }}") == "abcd");
}

TEST_CASE("Searching, stripping and lexing take linear time", "[text]") {
  CHECK(render("{% set a = 'a' * 2000000 %}{{ (a ~ a).rfind('b' ~ a) }} {{ (a ~ 'b') in (a ~ a) }}") == "-1 False");
  CHECK(render("{% set b = 'b' * 100000 %}{{ ('a' * 100000 ~ 'c').strip(b ~ 'a') }}") == "c");
  CHECK(render("{{ 'xabab'.rsplit('ab', 1) }}{{ 'aaa'.rsplit('aa') }}{{ 'xaya'.rpartition('a') }}") ==
        "['xab', '']['a', '']('xay', 'a', '')");
  std::string line;
  for (int i = 0; i < 40'000; ++i) line += "{% if 1 %}{% endif %}";
  CHECK(render(line) == "");
}

TEST_CASE("Objects that hold themselves are freed", "[text]") {
  CHECK(
      render(
          "{% set ns = namespace() %}{% set ns.self = ns %}{% macro m() %}{{ m.name }}{% endmacro %}{% set ns.m = m %}"
          "{% for x in [1] %}{% set ns.loop = loop %}{% endfor %}{% set ns.f = ns.loop.changed %}{{ ns.f(1) }}{{ "
          "ns.m() }}") == "Truem");
}

TEST_CASE("strftime_now writes the local time by the format", "[text]") {
  const auto year = [] {
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    return std::to_string(1900 + local.tm_year);
  };
  const std::string before = year(), rendered = render("{{ strftime_now('%Y') }}{{ strftime_now('') }}");
  CHECK((rendered == before || rendered == year()));
  CHECK(render("{{ strftime_now('%%')|length }}") == "1");
}

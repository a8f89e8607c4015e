#include "config/json_reader.h"

#include "catch_amalgamated.hpp"

using namespace dsft::config;

namespace {

std::string faults_of(const std::string& text) {
  std::vector<Fault> faults;
  read_json(text, "c.json", faults);
  std::string all;
  for (const Fault& fault : faults) all += to_string(fault) + "\n";
  return all;
}

}  // namespace

TEST_CASE("JSON is read with the place of each key and value", "[config]") {
  std::vector<Fault> faults;
  const Node root = read_json(
      "// a caption\n{\n  \"zero\": {\"stage\": 2, \"on\": true},  # and\n\t\"l\": [1e-4, \"auto\", null, "
      "\"\\u00e9\\ud83d\\ude00\\n\"]\n}\n",
      "c.json", faults);
  REQUIRE(faults.empty());
  REQUIRE(root.entries.size() == 2);
  CHECK(to_string(root.entries[0].key_position) == "c.json:3:3");
  const Entry& stage = root.entries[0].value.entries[0];
  CHECK(to_string(stage.key_position) == "c.json:3:12");
  CHECK(to_string(stage.value.position) == "c.json:3:21");
  CHECK(to_integer(stage.value) == 2);
  CHECK(to_bool(root.find("zero")->entries[1].value) == true);
  const Node& list = *root.find("l");
  REQUIRE(list.items.size() == 4);
  CHECK(to_number(list.items[0]) == 1e-4);
  CHECK(list.items[1].is_string);
  CHECK(list.items[2].is_null());
  CHECK(list.items[3].text == "\u00e9\U0001F600\n");
}

TEST_CASE("JSON that is none is one fault at its place", "[config]") {
  CHECK(faults_of("") == "c.json:1:1: not valid JSON: the document ends here\n");
  CHECK(faults_of("{\"a\": 1,\n}") == "c.json:2:1: not valid JSON: a comma stands before `}`; remove it\n");
  CHECK(faults_of("{\"a\": 1\n \"b\": 2}") == "c.json:2:2: not valid JSON: `,` or `}` is needed here\n");
  CHECK(faults_of("{a: 1}") == "c.json:1:2: not valid JSON: a key in double quotes is needed here\n");
  CHECK(faults_of("{\"a\": True}") == "c.json:1:7: not valid JSON: a value is needed here\n");
  CHECK(faults_of("{\"a\": 1.}") == "c.json:1:9: not valid JSON: a digit is needed here\n");
  CHECK(faults_of("{} {}") == "c.json:1:4: not valid JSON: something stands after the end of the document\n");
  CHECK(faults_of("\"\\ud83d\"") == "c.json:1:8: not valid JSON: half a surrogate pair\n");
  CHECK(faults_of("{\"a\": \"x\n\"}") == "c.json:1:7: not valid JSON: this text has no closing quote\n");
  CHECK(faults_of("/* x") == "c.json:1:1: not valid JSON: this comment has no end\n");
  CHECK(faults_of("{\"a\": {\"b\": 1,\n\"b\": 2}}") ==
        "c.json:2:1: a.b: is written twice: first at line 1, again here; remove one of them\n");
  CHECK(faults_of(std::string(100, '[')) == "c.json:1:33: nested deeper than 32 levels\n");
}

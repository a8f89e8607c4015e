#include "config/yaml_reader.h"

#include <string>

#include "catch_amalgamated.hpp"
#include "config/yaml_writer.h"

using namespace dsft::config;

namespace {

std::string first_fault(const std::string& text) {
  std::vector<Fault> faults;
  read_yaml(text, "r.yaml", faults);
  return faults.empty() ? "" : to_string(faults.front());
}

Node read_clean(const std::string& text) {
  std::vector<Fault> faults;
  Node node = read_yaml(text, "r.yaml", faults);
  for (const Fault& fault : faults) FAIL(to_string(fault));
  return node;
}

}  // namespace

TEST_CASE("every value of a YAML text knows its line and column", "[config]") {
  const Node root = read_clean("a: 1\nb:\n  c: [x, 'y']\n");
  REQUIRE(root.entries.size() == 2);
  CHECK(to_string(root.entries[1].key_position) == "r.yaml:2:1");
  const Node* list = root.find("b")->find("c");
  REQUIRE(list);
  CHECK(to_string(list->items[1].position) == "r.yaml:3:10");
  CHECK(list->items[1].is_string);
  CHECK_FALSE(list->items[0].is_string);
}

TEST_CASE("an equal key is a fault at its second place", "[config]") {
  CHECK(first_fault("a: {b: 1}\nc: 2\na: 3\n") ==
        "r.yaml:3:1: a: is written twice: first at line 1, again here; remove one of them");
  CHECK(first_fault("a: {b: 1, b: 2}\n").starts_with("r.yaml:1:11: a.b: is written twice"));
}

TEST_CASE("anchors, aliases and merge keys are expanded", "[config]") {
  const Node root = read_clean("x: &x {p: 1, q: 2}\ny: *x\nz: {<<: *x, q: 3}\n");
  CHECK(root.find("y")->find("q")->text == "2");
  CHECK(root.find("z")->find("q")->text == "3");
  CHECK(root.find("z")->find("p")->text == "1");
}

TEST_CASE("an alias bomb, deep nesting and a huge file end with one fault", "[config]") {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) bomb += std::string(j ? ", " : "") + "*a" + std::to_string(i - 1);
    bomb += "]\n";
  }
  CHECK(first_fault(bomb).find("more than 100000 values") != std::string::npos);
  CHECK(first_fault("a: " + std::string(100'000, '[')).find("nested deeper than 32") != std::string::npos);
  CHECK(first_fault(std::string(kMaxRecipeBytes + 1, 'a')).find("at most 1048576") != std::string::npos);
}

TEST_CASE("aliases of a long text, long keys and endless faults end with one fault", "[config]") {
  std::string copies = "a: &a " + std::string(500'000, 'x') + "\nb: [*a";
  for (int i = 0; i < 50'000; ++i) copies += ", *a";
  CHECK(first_fault(copies + "]\n").find("aliases stand for more than") != std::string::npos);
  CHECK(first_fault("? " + std::string(5000, 'k') + "\n: 1\n").find("longer than 1024 bytes") != std::string::npos);
  std::string twice = "a: 1\n";
  for (int i = 0; i < 20'000; ++i) twice += "a: 1\n";
  std::vector<Fault> faults;
  read_yaml(twice, "r.yaml", faults);
  REQUIRE(faults.size() == kMaxFaults + 1);
  CHECK(faults.back().message == "further faults are not listed");
}

TEST_CASE("broken YAML, a binary file and a second document are faults with a place", "[config]") {
  CHECK(first_fault("a: [1, 2\n").find("not valid YAML") != std::string::npos);
  CHECK(first_fault("ab\ncd: \x01\n").starts_with("r.yaml:2:5: a control byte"));
  CHECK(first_fault("a: 1\n---\nb: 2\n").find("second YAML document") != std::string::npos);
}

TEST_CASE("numbers and booleans are read as YAML 1.1 writes them", "[config]") {
  CHECK(to_integer(make_plain("5e8")) == 500'000'000);
  CHECK(to_integer(make_plain("1_000")) == 1000);
  CHECK(to_integer(make_plain("2.0")) == 2);
  CHECK_FALSE(to_integer(make_plain("2.5")));
  CHECK_FALSE(to_integer(make_plain("1e40")));
  CHECK_FALSE(to_integer(make_string("8")));
  CHECK(to_number(make_plain("2e-4")) == 2e-4);
  CHECK_FALSE(to_number(make_plain("nan")));
  CHECK_FALSE(to_number(make_plain("0x10")));
  CHECK(to_bool(make_plain("no")) == false);
  CHECK_FALSE(to_bool(make_string("no")));
}

TEST_CASE("what the writer writes reads back as the same tree", "[config]") {
  const std::string text = "a: {\"x y\": \"no\", b: [1, 2.5, \"\", \"null\", \"8\", \"tab\\tquote\\\"\"]}\nc: null\n";
  const Node root = read_clean(text);
  const Node again = read_clean(write_yaml(root));
  CHECK(write_json(again) == write_json(root));
  CHECK(write_json(root) == R"({"a": {"x y": "no", "b": [1, 2.5, "", "null", "8", "tab\tquote\""]}, "c": null})");
}

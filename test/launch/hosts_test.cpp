#include "launch/hosts.h"

#include <fstream>
#include <set>
#include <sstream>

#include "catch_amalgamated.hpp"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using launch::Host;

namespace {

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

/// "a:0,1@b:0", or "error".
std::string resolve(const std::string& hostfile, const std::string& include, const std::string& exclude) {
  try {
    std::string text;
    for (const Host& host :
         launch::select_slots(launch::parse_hostfile(hostfile, "hosts"), include, exclude, "hosts")) {
      text += (text.empty() ? "" : "@") + host.name + ":";
      for (size_t i = 0; i < host.slots.size(); ++i) text += (i == 0 ? "" : ",") + std::to_string(host.slots[i]);
    }
    return text;
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kUsage);
    return "error";
  }
}

}  // namespace

TEST_CASE("Hostfiles and choices of slots mean what they mean to DeepSpeed's launcher", "[launch]") {
  std::ifstream file(std::string(DSFT_SOURCE_DIR) + "/test/fixtures/launch/hosts.tsv");
  int num_cases = 0;
  for (std::string line; std::getline(file, line); ++num_cases) {
    INFO(line);
    std::vector<std::string> words;
    std::istringstream fields(line);
    for (std::string word; std::getline(fields, word, '\t');) words.push_back(word);
    REQUIRE(words.size() == 4);
    replace_all(words[0], "\\n", "\n");
    replace_all(words[0], "\\t", "\t");
    CHECK(resolve(words[0], words[1], words[2]) == words[3]);
  }
  REQUIRE(num_cases >= 40);
}

TEST_CASE("Every bad line of a hostfile is told with its place", "[launch]") {
  test::require_error(ErrorKind::kUsage,
                      {"my.hosts:2: 'b 4' is no line of a hostfile; write HOST slots=N",
                       "my.hosts:4: host 'a' is there twice", "my.hosts:5: 'c slots=4x'"},
                      [] { launch::parse_hostfile("a slots=2\nb 4\n# x\na slots=1\nc slots=4x", "my.hosts"); });
  test::require_error(ErrorKind::kUsage, {"my.hosts: the hostfile names no slot"},
                      [] { launch::parse_hostfile("a slots=0\n", "my.hosts"); });
  for (const char* name : {"-x", "a:22", "a,b", "k\xC3\xB6ln", "a;b", "$(b)"}) {
    test::require_error(ErrorKind::kUsage, {concat("my.hosts:2: '", name, "' is no name of a host")},
                        [&] { launch::parse_hostfile(concat("a slots=1\n", name, " slots=2\n"), "my.hosts"); });
  }
  CHECK(launch::parse_hostfile("gpu_1-a.b.example slots=1\nme@10.0.0.7 slots=1\n", "my.hosts").size() == 2);
  test::require_error(ErrorKind::kUsage, {"slots=999999999"},
                      [] { launch::parse_hostfile("a slots=999999999\n", "my.hosts"); });
}

TEST_CASE("A hostfile that is not there is told by its name", "[launch]") {
  test::TempDir folder;
  test::require_error(ErrorKind::kUsage, {"--hostfile", "nowhere", "No such file"},
                      [&] { launch::read_hostfile(folder / "nowhere"); });
  test::require_error(ErrorKind::kUsage, {"--hostfile", "Is a directory"},
                      [&] { launch::read_hostfile(folder.path()); });
  CHECK(launch::read_hostfile(folder.write("marked",
                                           "\xEF\xBB\xBF"
                                           "a slots=1\n")) == std::vector<Host>{{"a", {0}}});
  CHECK(launch::read_hostfile(folder.write("hosts", "a slots=1\r\n")) == std::vector<Host>{{"a", {0}}});
}

TEST_CASE("A choice that cannot be met names what there is", "[launch]") {
  const std::vector<Host> hosts = {{"a", {0, 1, 2, 3}}, {"b", {0, 2}}};
  const auto require_fault = [&](const std::string& include, const std::string& exclude,
                                 std::initializer_list<std::string> parts) {
    test::require_error(ErrorKind::kUsage, parts, [&] { launch::select_slots(hosts, include, exclude, "my.hosts"); });
  };
  require_fault("c", "", {"--include c: host 'c' is not in my.hosts", "a (slots 0 to 3), b (slots 0, 2)"});
  require_fault("", "b:1", {"--exclude b:1: host 'b' has no slot 1; my.hosts has b (slots 0, 2)"});
  require_fault("a", "b", {"--include and --exclude contradict"});
  // DeepSpeed takes the last one alone here
  require_fault("a:0@a:1", "", {"host 'a' is named twice", "a:0,1"});
  const std::vector<Host> of_users = {{"me@a", {0, 1}}, {"b", {0, 1}}};
  CHECK(launch::select_slots(of_users, "me@a:1@b", "", "my.hosts") == std::vector<Host>{{"me@a", {1}}, {"b", {0, 1}}});
  // and starts nothing here
  require_fault("", "a@b", {"no slot is left"});
}

TEST_CASE("A machine knows its own names", "[launch]") {
  for (const char* name : {"localhost", "127.0.0.1", "node7", "node7.cluster.example"})
    CHECK(launch::is_this_machine(name, "node7.cluster.example"));
  CHECK(launch::is_this_machine("node7.cluster.example", "node7"));
  for (const char* name : {"node8", "node7.other.example", "node", "10.0.0.7"})
    CHECK_FALSE(launch::is_this_machine(name, "node7.cluster.example"));
  CHECK_FALSE(launch::is_this_machine("10.0.0.1", "10.0.0.2"));
}

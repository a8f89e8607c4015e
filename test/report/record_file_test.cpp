#include "report/record_file.h"

#include <optional>
#include <vector>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "support/file_size_limit.h"
#include "support/temp_dir.h"

using namespace dsft;
using report::RecordFile;

TEST_CASE("records that a full disk refuses wait and lose nothing, and it is said once", "[report]") {
  test::TempDir directory;
  const auto path = directory / "log";
  std::vector<std::string> warnings;
  RecordFile file(
      path, [&] { return io::open_for_appending(path); }, [&](const std::string& text) { warnings.push_back(text); });
  file.append("one\n");
  {
    const test::FileSizeLimit full(6);  // inside the second record
    file.append("two\n");
    file.append("three\n");
    CHECK(test::read_file(path) == "one\ntw");
    CHECK(file.num_waiting() == 8);
    REQUIRE(warnings.size() == 1);
    CHECK(warnings[0].find(path.string()) != std::string::npos);
    CHECK(warnings[0].find("The run goes on") != std::string::npos);
  }
  file.append("four\n");
  CHECK(test::read_file(path) == "one\ntwo\nthree\nfour\n");
  REQUIRE(warnings.size() == 2);
  CHECK(warnings[1].find("nothing of it is lost") != std::string::npos);
}

TEST_CASE("a file that cannot be opened is tried again, and what stays unwritten is said at the end", "[report]") {
  test::TempDir directory;
  std::vector<std::string> warnings;
  const auto warn = [&](const std::string& text) { warnings.push_back(text); };
  const auto path = directory / "later/log";
  const auto open = [&] { return io::open_for_appending(path); };
  {
    RecordFile file(path, open, warn);
    file.append("one\n");
    file.append("two\n");
    CHECK(warnings.size() == 1);
    std::filesystem::create_directory(directory / "later");
    file.append("three\n");
    CHECK(test::read_file(path) == "one\ntwo\nthree\n");
  }
  std::filesystem::remove_all(directory / "later");
  warnings.clear();
  std::optional<RecordFile> lost(std::in_place, path, open, warn);
  lost->append("one\n");
  lost.reset();
  REQUIRE(warnings.size() == 2);
  CHECK(warnings[1].find("the last 4 bytes") != std::string::npos);
}

#include "io/replaced_file.h"

#include <iterator>

#include "catch_amalgamated.hpp"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;

namespace {

long count_files(const std::filesystem::path& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
}

}  // namespace

TEST_CASE("A replaced file shows its new contents only when it is committed", "[io]") {
  const test::TempDir folder;
  const auto path = folder.write("out.jsonl", "old\n");
  {
    io::ReplacedFile file(path);
    file.write("one\n");
    file.write("two\n");
    CHECK(test::read_file(path) == "old\n");
    file.commit();
  }
  CHECK(test::read_file(path) == "one\ntwo\n");
  CHECK(count_files(folder.path()) == 1);
}

TEST_CASE("A replaced file that is not committed leaves everything as it was", "[io]") {
  const test::TempDir folder;
  const auto path = folder.write("out.jsonl", "old\n");
  { io::ReplacedFile(path).write("half"); }
  CHECK(test::read_file(path) == "old\n");
  CHECK(count_files(folder.path()) == 1);
}

TEST_CASE("A replaced file in a folder that does not exist is an error that names it", "[io]") {
  test::require_error(ErrorKind::kData, {"/nowhere/out.jsonl"}, [] { io::ReplacedFile("/nowhere/out.jsonl"); });
}

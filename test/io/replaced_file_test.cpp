#include "io/replaced_file.h"

#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "catch_amalgamated.hpp"
#include "io/output_target.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
namespace fs = std::filesystem;

namespace {

long count_files(const std::filesystem::path& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
}

/// Both ways to replace a file, as functions of its path and contents.
const auto kWriters = {
    +[](const fs::path& path, const std::string& text) {
      io::ReplacedFile file(path);
      file.write(text);
      file.commit();
    },
    +[](const fs::path& path, const std::string& text) { io::replace_text_file(path, text, ErrorKind::kData); }};

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

TEST_CASE("A link that is written to stays one, and the file it leads to is replaced", "[io]") {
  for (const auto write : kWriters) {
    const test::TempDir folder;
    const auto file = folder.write("data/out.jsonl", "old");
    fs::create_symlink("data/out.jsonl", folder / "link");
    fs::create_symlink(folder / "link", folder / "link_of_link");
    fs::create_symlink("data/new.jsonl", folder / "dangling");
    write(folder / "link_of_link", "new");
    write(folder / "dangling", "first");
    CHECK(fs::read_symlink(folder / "link") == "data/out.jsonl");
    CHECK(fs::is_symlink(folder / "link_of_link"));
    CHECK(fs::is_symlink(folder / "dangling"));
    CHECK(test::read_file(file) == "new");
    CHECK(test::read_file(folder / "data/new.jsonl") == "first");
    CHECK(count_files(folder.path()) == 4);
    CHECK(count_files(folder / "data") == 2);
    fs::create_symlink("ring", folder / "ring");
    test::require_error(ErrorKind::kData, {"ring", "too many links"}, [&] { write(folder / "ring", "x"); });
  }
}

TEST_CASE("A pipe is written as it is, also through a link", "[io]") {
  for (const auto write : kWriters) {
    const test::TempDir folder;
    const fs::path pipe = folder / "pipe";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    fs::create_symlink("pipe", folder / "link");
    for (const char* name : {"pipe", "link"}) {
      std::string read;
      std::thread reader([&] { read = test::read_file(pipe); });
      write(folder / name, "through the pipe\n");
      reader.join();
      CHECK(read == "through the pipe\n");
      CHECK(fs::is_fifo(fs::symlink_status(pipe)));
      CHECK(fs::is_symlink(folder / "link"));
      CHECK(count_files(folder.path()) == 2);
    }
  }
}

TEST_CASE("An open file of this process is written at its end, not replaced", "[io]") {
  // what /dev/stdout leads to where the shell has sent it into a file
  for (const auto write : kWriters) {
    const test::TempDir folder;
    const auto file = folder.write("stdout.txt", "before\n");
    const io::FileDescriptor open = io::open_for_appending(file);
    write("/proc/self/fd/" + std::to_string(open.get()), "written\n");
    io::write_all(open.get(), file, "after\n", 6);
    CHECK(test::read_file(file) == "before\nwritten\nafter\n");
    CHECK(count_files(folder.path()) == 1);
  }
}

TEST_CASE("A folder is not replaced by a file", "[io]") {
  for (const auto write : kWriters) {
    const test::TempDir folder;
    test::require_error(ErrorKind::kData, {folder.path().string(), "directory"}, [&] { write(folder.path(), "x"); });
  }
}

TEST_CASE("An output that the command reads is refused, by whatever name", "[io]") {
  const test::TempDir folder;
  const fs::path data = folder.write("rows.jsonl", "{}");
  folder.write("model/config.json", "{}");
  folder.write("blobs/weights", "w");
  fs::create_symlink("../blobs/weights", folder / "model/model.safetensors");
  fs::create_symlink("rows.jsonl", folder / "link");
  fs::create_hard_link(data, folder / "hard");
  const std::vector<fs::path> inputs{data, folder / "model", ""};
  for (const char* name : {"rows.jsonl", "model/../rows.jsonl", "link", "hard", "model/config.json",
                           "model/model.safetensors", "blobs/weights"}) {
    INFO(name);
    test::require_error(ErrorKind::kUsage,
                        {"--output " + (folder / name).string(), "would overwrite", "which this command reads"},
                        [&] { io::require_no_input("--output", folder / name, inputs); });
  }
  folder.write("other.jsonl", "{}");
  for (const char* name : {"other.jsonl", "new.jsonl", "model/new.json", "nowhere/new.jsonl"})
    CHECK_NOTHROW(io::require_no_input("--output", folder / name, inputs));
}

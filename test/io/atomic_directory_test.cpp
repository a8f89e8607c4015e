#include "io/atomic_directory.h"

#include "catch_amalgamated.hpp"
#include "io/checksum.h"
#include "io/file.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using dsft::ErrorKind;
using dsft::test::read_file;
using dsft::test::require_error;
using dsft::test::TempDir;
namespace fs = std::filesystem;
namespace io = dsft::io;

TEST_CASE("a folder appears under its name only when it is committed", "[io]") {
  TempDir dir;
  {
    io::AtomicDirectory target(dir / "out/model/");
    io::write_text_file(target.path() / "a.txt", "a");
    REQUIRE_FALSE(fs::exists(dir / "out/model"));
  }
  REQUIRE_FALSE(fs::exists(dir / "out/model.tmp"));
  dir.write("out/model.tmp/own.txt", "the user's");
  dir.write("out/model/old.txt", "old");
  io::AtomicDirectory target(dir / "out/model");
  io::write_text_file(target.path() / "a.txt", "a");
  fs::create_directory(target.path() / "sub");
  io::write_text_file(target.path() / "sub/b.txt", "b");
  target.commit();
  REQUIRE(read_file(dir / "out/model/sub/b.txt") == "b");
  REQUIRE(read_file(dir / "out/model.tmp/own.txt") == "the user's");
  REQUIRE_FALSE(fs::exists(dir / "out/model/old.txt"));
  REQUIRE(std::distance(fs::directory_iterator(dir / "out"), fs::directory_iterator()) == 2);
}

TEST_CASE("two writers of one name do not meet", "[io]") {
  TempDir dir;
  io::AtomicDirectory first(dir / "model"), second(dir / "model");
  io::write_text_file(first.path() / "a", "first");
  io::write_text_file(second.path() / "a", "second");
  first.commit();
  second.commit();
  REQUIRE(read_file(dir / "model/a") == "second");
  REQUIRE(std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()) == 1);
}

TEST_CASE("space that is not there is said before anything is written", "[io]") {
  TempDir dir;
  io::require_free_space(dir.path(), 1);
  require_error(ErrorKind::kCheckpoint, {dir.path().string(), "GiB are free"},
                [&] { io::require_free_space(dir.path(), uint64_t{1} << 60); });
}

TEST_CASE("a folder that cannot be made is said", "[io]") {
  TempDir dir;
  dir.write("file", "x");
  require_error(ErrorKind::kCheckpoint, {"Cannot create the folder"}, [&] { io::AtomicDirectory(dir / "file/model"); });
}

TEST_CASE("files are replaced in one step and copied whole", "[io]") {
  TempDir dir;
  io::replace_text_file(dir / "a", "one");
  io::replace_text_file(dir / "a", "two");
  REQUIRE(read_file(dir / "a") == "two");
  REQUIRE_FALSE(fs::exists(dir / "a.tmp"));
  const std::string large(9'000'001, 'z');
  dir.write("large", large);
  io::copy_file_contents(dir / "large", dir / "copy");
  REQUIRE(read_file(dir / "copy") == large);
  require_error(ErrorKind::kCheckpoint, {"missing"}, [&] { io::copy_file_contents(dir / "missing", dir / "b"); });
  require_error(ErrorKind::kData, {"not a regular file"},
                [&] { io::read_text_file(dir.path(), 10, ErrorKind::kData); });
  require_error(ErrorKind::kCheckpoint, {"at most 10"}, [&] { io::read_text_file(dir / "large", 10); });
}

TEST_CASE("checksums equal the published ones", "[io]") {
  // XXH64 of "" and of "abc" with seed 0, as printed by the reference program xxhsum.
  REQUIRE(io::to_hex(io::xxh64("")) == "ef46db3751d8e999");
  REQUIRE(io::to_hex(io::xxh64("abc")) == "44bc2cf5ad770999");
  TempDir dir;
  REQUIRE(io::xxh64_of_file(dir.write("f", "abc")) == io::xxh64("abc"));
  io::Xxh64 hash;
  hash.update("a", 1);
  hash.update("bc", 2);
  REQUIRE(hash.digest() == io::xxh64("abc"));
}

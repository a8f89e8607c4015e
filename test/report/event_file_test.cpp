#include "report/event_file.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "support/file_size_limit.h"
#include "support/temp_dir.h"

using namespace dsft;
using namespace dsft::report;

TEST_CASE("CRC-32C gives the values of RFC 3720, appendix B.4", "[report]") {
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AA);
  CHECK(crc32c(std::string(32, '\xFF')) == 0x62A8AB43);
  std::string ascending;
  for (char byte = 0; byte < 32; ++byte) ascending += byte;
  CHECK(crc32c(ascending) == 0x46DD794E);
  CHECK(crc32c("123456789") == 0xE3069283);
  CHECK(crc32c("") == 0);
}

TEST_CASE("a scalar event has the bytes that TensorBoard's own protobuf classes write", "[report]") {
  // scripts/goldens/report_events.py: Event(wall_time=1.5, step=300, summary=Summary(value=[Value(tag="loss",
  // simple_value=0.25)]))
  const std::string expected(
      "\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x80\x3e", 27);
  CHECK(encode_scalar_event(1.5, 300, {{"loss", 0.25}}) == expected);
  const std::string version(
      "\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x1a\x0d"
      "brain.Event:2",
      24);
  CHECK(encode_version_event(1.5) == version);
}

TEST_CASE("an event file is a row of framed records that end where the file ends", "[report]") {
  test::TempDir directory;
  std::filesystem::path path;
  {
    EventFile file(directory.path() / "tb", [](const std::string&) {});
    path = file.path();
    file.add_scalars(1, {{"loss", 2.0}, {"grad_norm", 0.5}});
    file.add_scalars(2, {{"loss", std::nan("")}});
    CHECK(path.filename().string().starts_with("events.out.tfevents."));
  }
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  const std::string bytes = content.str();
  size_t position = 0;
  int num_records = 0;
  while (position < bytes.size()) {
    uint64_t length = 0;
    std::memcpy(&length, bytes.data() + position, sizeof(length));
    REQUIRE(position + 16 + length <= bytes.size());
    CHECK(bytes.substr(position, 16 + length) == frame_record(bytes.substr(position + 12, length)));
    position += 16 + length;
    ++num_records;
  }
  CHECK(num_records == 3);
}

TEST_CASE("an event file that cannot be made says which and what to do", "[report]") {
  test::TempDir directory;
  std::ofstream(directory.path() / "taken") << "a file, not a folder";
  try {
    EventFile file(directory.path() / "taken", [](const std::string&) {});
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kCheckpoint);
    CHECK(error.message().find("taken") != std::string::npos);
    CHECK(error.message().find("report_to") != std::string::npos);
  }
}

TEST_CASE("a full disk delays events and does not throw", "[report]") {
  test::TempDir directory;
  int num_warnings = 0;
  EventFile file(directory.path() / "tb", [&](const std::string&) { ++num_warnings; });
  const std::string before = test::read_file(file.path());
  {
    const test::FileSizeLimit full(before.size());
    file.add_scalars(1, {{"loss", 2.0}});
    CHECK(num_warnings == 1);
  }
  file.add_scalars(2, {{"loss", 1.0}});
  CHECK(test::read_file(file.path()).size() > before.size());
  CHECK(num_warnings == 2);
}

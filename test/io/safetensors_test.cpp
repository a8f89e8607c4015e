#include "io/safetensors.h"

#include <chrono>
#include <cstring>

#include "base/stopwatch.h"
#include "catch_amalgamated.hpp"
#include "support/require_error.h"
#include "support/temp_dir.h"

using dsft::ErrorKind;
using dsft::io::DType;
using dsft::io::SafetensorsFile;
using dsft::io::SafetensorsSet;
using dsft::io::SafetensorsWriter;
using dsft::io::TensorInfo;
using dsft::test::read_file;
using dsft::test::require_error;
using dsft::test::TempDir;

namespace {

std::string file_of(const std::string& header, size_t data_size) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i));
  return bytes + header + std::string(data_size, '\0');
}

void require_rejected(const std::string& bytes, std::initializer_list<std::string> parts) {
  TempDir dir;
  const auto path = dir.write("x.safetensors", bytes);
  require_error(ErrorKind::kCheckpoint, parts, [&] { SafetensorsFile::open(path); });
}

TensorInfo tensor(const std::string& name, DType dtype, std::vector<int64_t> shape) {
  TensorInfo info;
  info.name = name;
  info.dtype = dtype;
  info.shape = std::move(shape);
  return info;
}

std::string small_file(const TempDir& dir) {
  const auto path = dir / "small.safetensors";
  SafetensorsWriter writer(
      path, {tensor("a", DType::kF32, {2, 2}), tensor("b", DType::kBF16, {3}), tensor("empty", DType::kF16, {0, 4})},
      {{"format", "pt"}});
  const float a[4] = {1, 2, 3, 4};
  const uint16_t b[3] = {7, 8, 9};
  writer.write(a, sizeof(a));
  writer.write(b, 2);
  writer.write(reinterpret_cast<const char*>(b) + 2, 4);
  writer.finish();
  return read_file(path);
}

}  // namespace

TEST_CASE("a written safetensors file reads back", "[io]") {
  TempDir dir;
  small_file(dir);
  const auto file = SafetensorsFile::open(dir / "small.safetensors");
  REQUIRE(file.tensors().size() == 3);
  REQUIRE(file.metadata().at("format") == "pt");
  REQUIRE(file.find("a")->shape == std::vector<int64_t>{2, 2});
  REQUIRE(file.find("a")->begin % 8 == 0);
  REQUIRE(file.find("c") == nullptr);
  float a[4] = {};
  file.read(*file.find("a"), a);
  REQUIRE(a[3] == 4);
  uint16_t last = 0;
  file.read(*file.find("b"), 4, 2, &last);
  REQUIRE(last == 9);
}

TEST_CASE("the cases of the format's own reader are rejected", "[io]") {
  const std::string entry = R"("t":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]})";
  SECTION("overlapping tensors") {
    std::string header = "{";
    for (int i = 0; i < 10; ++i)
      header +=
          (i ? "," : "") + ("\"w" + std::to_string(i)) + R"(":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]})";
    require_rejected(file_of(header + "}", 16), {"w1", "overlap"});
  }
  SECTION("extra bytes") {
    require_rejected(file_of("{" + entry + "}", 20), {"appended"});
  }
  SECTION("missing bytes") {
    require_rejected(file_of("{" + entry + "}", 14), {"cut"});
  }
  SECTION("header too large") {
    require_rejected(std::string("\x00\x00\x00\x00\x00\x00\x00\x7f", 8), {"claims"});
  }
  SECTION("header too small") {
    require_rejected("", {"too few"});
  }
  SECTION("header past the end") {
    require_rejected(std::string("<\0\0\0\0\0\0\0", 8), {"claims 60 bytes"});
  }
  SECTION("header not UTF-8") {
    require_rejected(file_of("\xff", 0), {"UTF-8", "byte 8"});
  }
  SECTION("header not JSON") {
    require_rejected(file_of("{", 0), {"JSON"});
  }
  SECTION("no object") {
    require_rejected(file_of("[]", 0), {"list"});
  }
  SECTION("a hole") {
    require_rejected(file_of(R"({"t":{"dtype":"I32","shape":[1],"data_offsets":[4,8]}})", 8), {"hole"});
  }
  SECTION("shape and offsets differ") {
    require_rejected(file_of(R"({"t":{"dtype":"I32","shape":[2,2],"data_offsets":[0,4]}})", 4), {"need 16"});
  }
  SECTION("endless dimensions") {
    std::string shape = "1";
    for (int i = 0; i < 64; ++i) shape += ",1";
    require_rejected(file_of(R"({"t":{"dtype":"U8","shape":[)" + shape + R"(],"data_offsets":[0,1]}})", 1),
                     {"more than 64 dimensions"});
  }
  SECTION("elements overflow") {
    require_rejected(file_of(R"({"t":{"dtype":"I32","shape":[2,18446744073709551614],"data_offsets":[0,16]}})", 16),
                     {"dimension"});
  }
  SECTION("bytes overflow") {
    require_rejected(file_of(R"({"t":{"dtype":"I32","shape":[2,9223372036854775807],"data_offsets":[0,16]}})", 16),
                     {"overflow"});
  }
  SECTION("a number past 64 bits") {
    require_rejected(file_of(R"({"t":{"dtype":"I32","shape":[28446744073709551614],"data_offsets":[0,16]}})", 16),
                     {"number"});
  }
  SECTION("a name twice") {
    require_rejected(
        file_of(
            R"({"t":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}})",
            2),
        {"listed twice"});
  }
  SECTION("end before begin") {
    require_rejected(file_of(R"({"t":{"dtype":"I8","shape":[0],"data_offsets":[0,-1]}})", 0), {"negative"});
  }
  SECTION("metadata that is no string") {
    require_rejected(file_of(R"({"__metadata__":{"a":1}})", 0), {"__metadata__"});
  }
  SECTION("an unknown type") {
    require_rejected(file_of(R"({"t":{"dtype":"F3","shape":[0],"data_offsets":[0,0]}})", 0), {"F3"});
  }
  SECTION("a missing field") {
    require_rejected(file_of(R"({"t":{"dtype":"F32","shape":[0]}})", 0), {"lacks"});
  }
  SECTION("deep nesting") {
    require_rejected(file_of(R"({"t":{"shape":)" + std::string(100000, '[') + "}}", 0), {"list"});
  }
}

TEST_CASE("zero-sized tensors and an empty file are taken", "[io]") {
  TempDir dir;
  REQUIRE(
      SafetensorsFile::open(dir.write("a", file_of(R"({"t":{"dtype":"I32","shape":[2,0],"data_offsets":[0,0]}})", 0)))
          .tensors()
          .size() == 1);
  REQUIRE(SafetensorsFile::open(dir.write("b", file_of("{}", 0))).tensors().empty());
  REQUIRE(
      SafetensorsFile::open(dir.write("c", file_of(R"({"t":{"dtype":"I32","shape":[],"data_offsets":[0,4]}}   )", 4)))
          .tensors()[0]
          .num_elements() == 1);
}

TEST_CASE("a file cut at any byte is rejected and crashes nothing", "[io]") {
  TempDir dir;
  const std::string whole = small_file(dir);
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto path = dir.write("cut.safetensors", whole.substr(0, size));
    INFO("cut at " << size);
    REQUIRE_THROWS_AS(SafetensorsFile::open(path), dsft::Error);
  }
}

TEST_CASE("flipped bits of a header never crash the reader", "[io]") {
  TempDir dir;
  const std::string whole = small_file(dir);
  const size_t data_size = 16 + 6;
  int rejected = 0;
  for (size_t bit = 0; bit < (whole.size() - data_size) * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    try {
      SafetensorsFile::open(dir.write("flipped.safetensors", flipped));
    } catch (const dsft::Error& error) {
      REQUIRE(error.kind() == ErrorKind::kCheckpoint);
      ++rejected;
    }
  }
  REQUIRE(rejected > 800);
}

TEST_CASE("a header with millions of entries fails fast", "[io]") {
  std::string header = "{";
  for (int i = 0; i < 1'700'000; ++i)
    header += "\"" + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)";
  header.back() = '}';
  REQUIRE(header.size() < 100'000'000);
  TempDir dir;
  const auto path = dir.write("bomb.safetensors", file_of(header, 0));
  dsft::Stopwatch watch;
  require_error(ErrorKind::kCheckpoint, {"more than 1000000 tensors"}, [&] { SafetensorsFile::open(path); });
  REQUIRE(watch.seconds() < 1.0);
}

TEST_CASE("a file that is cut after it was opened gives an error that names the tensor", "[io]") {
  TempDir dir;
  small_file(dir);
  const auto file = SafetensorsFile::open(dir / "small.safetensors");
  std::filesystem::resize_file(dir / "small.safetensors", file.find("b")->begin + 2);
  char bytes[6];
  require_error(ErrorKind::kCheckpoint, {"small.safetensors", "cut", "tensor b"},
                [&] { file.read(*file.find("b"), bytes); });
}

TEST_CASE("a sharded set takes plain file names of its own folder only", "[io]") {
  TempDir dir;
  std::filesystem::create_directory(dir / "model");
  dir.write("model/one.safetensors", file_of(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1));
  dir.write("outside.safetensors", file_of(R"({"b":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1));
  std::filesystem::create_symlink(dir / "outside.safetensors", dir / "model/link.safetensors");
  const auto open_with = [&](const std::string& map) {
    dir.write("model/model.safetensors.index.json", R"({"metadata":{},"weight_map":)" + map + "}");
    return SafetensorsSet::open(dir / "model");
  };
  REQUIRE(open_with(R"({"a":"one.safetensors"})").names() == std::vector<std::string>{"a"});
  for (const char* bad : {"../outside.safetensors", "/etc/passwd", "..", ".", "", "sub/one.safetensors",
                          "one.safetensors\\u0000x", "..\\\\outside.safetensors"}) {
    INFO(bad);
    require_error(ErrorKind::kCheckpoint, {"plain file names"},
                  [&] { open_with(std::string(R"({"b":")") + bad + "\"}"); });
  }
  require_error(ErrorKind::kCheckpoint, {"outside of the checkpoint"},
                [&] { open_with(R"({"b":"link.safetensors"})"); });
  require_error(ErrorKind::kCheckpoint, {"missing.safetensors", "cannot be opened"},
                [&] { open_with(R"({"b":"missing.safetensors"})"); });
  require_error(ErrorKind::kCheckpoint, {"holds c"}, [&] { open_with(R"({"c":"one.safetensors"})"); });
  require_error(ErrorKind::kCheckpoint, {"written twice"},
                [&] { open_with(R"({"a":"one.safetensors","a":"one.safetensors"})"); });
  require_error(ErrorKind::kCheckpoint, {"weight_map[\"a\"]"}, [&] { open_with(R"({"a":1})"); });
}

TEST_CASE("links inside one models--* folder of a cache are followed", "[io]") {
  TempDir dir;
  dir.write("models--o--n/blobs/abc", file_of(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1));
  dir.write("models--o--n/snapshots/1/model.safetensors.index.json", R"({"weight_map":{"a":"one.safetensors"}})");
  std::filesystem::create_symlink("../../blobs/abc", dir / "models--o--n/snapshots/1/one.safetensors");
  REQUIRE(SafetensorsSet::open(dir / "models--o--n/snapshots/1").find("a") != nullptr);
}

TEST_CASE("a folder without safetensors files says what it holds", "[io]") {
  TempDir dir;
  require_error(ErrorKind::kCheckpoint, {"neither model.safetensors"}, [&] { SafetensorsSet::open(dir.path()); });
  dir.write("pytorch_model.bin", "x");
  require_error(ErrorKind::kCheckpoint, {"pickle"}, [&] { SafetensorsSet::open(dir.path()); });
}

TEST_CASE("a full disk is said and names the file", "[io]") {
  if (!std::filesystem::exists("/dev/full")) SKIP("no /dev/full here");
  require_error(ErrorKind::kCheckpoint, {"/dev/full", "No space left"},
                [&] { SafetensorsWriter("/dev/full", {tensor("a", DType::kI8, {1})}, {}); });
}

// safetensors files and indices that disagree with each other.
#include <nlohmann/json.hpp>

#include "io/json.h"
#include "io/safetensors.h"
#include "io/safetensors_header.h"
#include "support/require_error.h"
#include "support/temp_dir.h"

using namespace dsft;
using Json = nlohmann::ordered_json;

namespace {

void write_shard(const std::filesystem::path& path, const std::vector<std::string>& names) {
  std::vector<io::TensorInfo> tensors;
  for (const std::string& name : names) tensors.push_back({name, io::DType::kF32, {2}, 0, 0});
  io::SafetensorsWriter writer(path, tensors, {});
  const std::string bytes(8 * names.size(), '\0');
  writer.write(bytes.data(), bytes.size());
  writer.finish();
}

/// Two files with 24 bytes of tensors: a and b, then `of_second`.
struct Folder {
  test::TempDir folder;
  explicit Folder(const std::string& of_second, Json metadata = Json::object()) {
    write_shard(folder / "model-1.safetensors", {"a", "b"});
    write_shard(folder / "model-2.safetensors", {of_second});
    const Json index = {{"metadata", std::move(metadata)},
                        {"weight_map", {{"a", "model-1.safetensors"}, {of_second, "model-2.safetensors"}}}};
    folder.write("model.safetensors.index.json", index.dump());
  }
  io::SafetensorsSet open() const { return io::SafetensorsSet::open(folder.path()); }
};

}  // namespace

TEST_CASE("a tensor that the index does not list is still one of the set", "[io]") {
  CHECK(Folder("c").open().names() == std::vector<std::string>{"a", "b", "c"});
}

TEST_CASE("a tensor in two files is a fault", "[io]") {
  const Folder twice("b");
  test::require_error(ErrorKind::kCheckpoint, {"b is in two files", "model-1.safetensors", "model-2.safetensors"},
                      [&] { twice.open(); });
}

TEST_CASE("an index of fewer bytes than its files hold is of other files", "[io]") {
  CHECK_NOTHROW(Folder("c", {{"total_size", 24}}).open());
  CHECK_NOTHROW(Folder("c", {{"total_size", 32}}).open());  // tied weights counted twice
  const Folder other("c", {{"total_size", 16}});
  test::require_error(ErrorKind::kCheckpoint, {"16 bytes", "hold 24"}, [&] { other.open(); });
}

TEST_CASE("metadata of more than a few megabytes is refused", "[io]") {
  const Json header = {{"__metadata__", {{"note", std::string(5 << 20, 'x')}}}};
  test::require_error(ErrorKind::kCheckpoint, {"__metadata__ is larger than 4 MB"},
                      [&] { io::parse_safetensors_header(header.dump(), 0, "model.safetensors"); });
}

TEST_CASE("an integer past 64 bits keeps its digits where they are asked for", "[io]") {
  const std::string text = "[18446744073709551616, 1.0]";
  CHECK(io::parse_ordered_json(text, "x")[0].is_number_float());
  const auto kept = io::parse_ordered_json(text, "x", ErrorKind::kData, {.keeps_long_integers = true});
  const auto* digits = io::as_long_integer(kept[0]);
  REQUIRE(digits);
  CHECK(std::string(digits->begin(), digits->end()) == "18446744073709551616");
  CHECK(io::as_long_integer(kept[1]) == nullptr);
}

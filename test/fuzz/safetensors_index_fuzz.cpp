// model.safetensors.index.json beside one good weight file, a.safetensors, with the tensors x and y.
#include "fuzz/fuzz.h"
#include "io/safetensors.h"
#include "io/safetensors_header.h"
#include "support/temp_dir.h"

namespace {

std::string good_file() {
  using dsft::io::DType;
  const std::string header = dsft::io::format_safetensors_header(
      {{"x", DType::kU8, {2}, 0, 2}, {"y", DType::kU8, {1}, 2, 3}}, {{"format", "pt"}});
  return std::string(1, static_cast<char>(header.size())) + std::string(7, '\0') + header + "xxy";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const dsft::test::TempDir folder;
  static const auto weights = folder.write("a.safetensors", good_file());
  folder.write("model.safetensors.index.json", std::string(dsft::fuzz::text_of(data, size)));
  dsft::fuzz::allow_refusal([&] {
    const auto set = dsft::io::SafetensorsSet::open(folder.path());
    for (const std::string& name : set.names()) set.file_of(*set.find(name));
  });
  return 0;
}

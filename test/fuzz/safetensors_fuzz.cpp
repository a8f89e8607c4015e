// A weight file as it comes from a hub: header, layout, and the bytes of each tensor.
#include "fuzz/fuzz.h"
#include "io/safetensors.h"
#include "support/temp_dir.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const dsft::test::TempDir folder;
  folder.write("model.safetensors", std::string(dsft::fuzz::text_of(data, size)));
  dsft::fuzz::allow_refusal([&] {
    const auto weights = dsft::io::SafetensorsSet::open(folder.path());
    for (const std::string& name : weights.names()) {
      const dsft::io::TensorInfo& tensor = *weights.find(name);
      std::string bytes(tensor.end - tensor.begin, '\0');
      weights.file_of(tensor).read(tensor, bytes.data());
    }
  });
  return 0;
}

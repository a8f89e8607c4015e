// config.json as a ModelSpec with its inventory of tensors, and generation_config.json.
#include "fuzz/fuzz.h"
#include "spec/generation_defaults.h"
#include "spec/model_spec.h"
#include "support/temp_dir.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const dsft::test::TempDir folder;
  const std::string input(dsft::fuzz::text_of(data, size));
  folder.write("config.json", input);
  folder.write("generation_config.json", input);
  dsft::fuzz::allow_refusal([&] { dsft::spec::tensor_inventory(dsft::spec::read_model_spec(folder.path())); });
  dsft::fuzz::allow_refusal([&] { dsft::spec::read_generation_config(folder.path(), {}); });
  return 0;
}

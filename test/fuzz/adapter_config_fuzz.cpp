// adapter_config.json, matched against a small model and written again.
#include "fuzz/fuzz.h"
#include "spec/adapter_inventory.h"
#include "spec/adapter_settings.h"
#include "support/temp_dir.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace dsft;
  static const test::TempDir folder;
  static const auto model = spec::read_model_spec(DSFT_SOURCE_DIR "/test/fixtures/checkpoint/base");
  folder.write("adapter_config.json", std::string(fuzz::text_of(data, size)));
  fuzz::allow_refusal([&] {
    const auto settings = spec::read_adapter_settings(folder.path());
    spec::adapter_inventory(model, settings.lora);
    folder.write("adapter_config.json", spec::format_adapter_settings(settings, model));
    spec::read_adapter_settings(folder.path());
  });
  return 0;
}

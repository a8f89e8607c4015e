// One row as ids and labels, by a tokenizer and a chat template that are in order.
#include "data/example_builder.h"
#include "fuzz/fuzz.h"
#include "io/json.h"

namespace {

dsft::data::ExampleBuilder& builder() {
  const std::string fixtures = DSFT_SOURCE_DIR "/test/fixtures/";
  static const auto assets = dsft::data::TextAssets::load(std::filesystem::path(fixtures + "data/tokenizer"),
                                                          fixtures + "text/chat_template/tools_chatml.jinja");
  static dsft::data::ExampleBuilder builder(assets, dsft::data::LossOn::kAuto, dsft::text::Json::object());
  return builder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  dsft::fuzz::allow_refusal([&] {
    const auto example = builder().build(dsft::io::parse_ordered_json(dsft::fuzz::text_of(data, size), "row"));
    DSFT_CHECK(example.ids.size() == example.labels.size(), "not one label per token");
    for (size_t i = 0; i < example.ids.size(); ++i)
      DSFT_CHECK(example.labels[i] == dsft::data::kIgnored || (i > 0 && example.labels[i] == example.ids[i]), "label ",
                 i);
  });
  return 0;
}

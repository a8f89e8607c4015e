// Any text through tokenizers that are in order; the first byte chooses one.
#include <array>

#include "fuzz/fuzz.h"
#include "support/temp_dir.h"
#include "text/tokenizer.h"

namespace {

using dsft::text::Tokenizer;

Tokenizer load(const std::string& name) {
  const std::string file = DSFT_SOURCE_DIR "/test/fixtures/text/tokenizer/" + name + ".json";
  return Tokenizer::parse(dsft::test::read_file(file), name);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::array<Tokenizer, 5> tokenizers = {load("gpt2"), load("llama2"), load("llama3"), load("qwen2"),
                                                      load("smollm2")};
  if (size == 0) return 0;
  const Tokenizer& tokenizer = tokenizers[data[0] % tokenizers.size()];
  const std::string_view text = dsft::fuzz::text_of(data + 1, size - 1);
  dsft::fuzz::allow_refusal([&] {
    const dsft::text::ByteRange plain{text.size() / 3, text.size() / 2};
    const auto encoding = tokenizer.encode_with_offsets(text, true, {&plain, 1});
    for (size_t i = 0; i < encoding.ids.size(); ++i)
      DSFT_CHECK(encoding.begins[i] <= encoding.ends[i] && encoding.ends[i] <= text.size(), "offsets of token ", i);
    tokenizer.decode(encoding.ids, false);
  });
  return 0;
}

// A tokenizer.json, and a text that goes through what it describes and back.
#include "fuzz/fuzz.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr std::string_view kText =
      "  Hello wörld's 12345 \t\n\n e\u0301\u4e2d\u6587 <|im_start|>x</s> \U0001F600!! aaaa";
  dsft::fuzz::allow_refusal([&] {
    const auto tokenizer = dsft::text::Tokenizer::parse(dsft::fuzz::text_of(data, size), "tokenizer.json");
    const auto encoding = tokenizer.encode_with_offsets(kText, true);
    for (size_t i = 0; i < encoding.ids.size(); ++i)
      DSFT_CHECK(encoding.begins[i] <= encoding.ends[i] && encoding.ends[i] <= kText.size(), "offsets of token ", i);
    tokenizer.decode(encoding.ids, false);
    tokenizer.decode(encoding.ids, true);
  });
  return 0;
}

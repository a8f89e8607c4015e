// A chat template, rendered for a conversation with tools.
#include "fuzz/fuzz.h"
#include "text/chat_template.h"

namespace {

dsft::text::ChatInput make_input() {
  dsft::text::ChatInput input;
  input.messages = dsft::text::Json::parse(R"([
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Wörld \n12"},
    {"role": "assistant", "content": "<think>a</think>b", "tool_calls":
      [{"type": "function", "function": {"name": "f", "arguments": {"x": 1.5, "y": [true, null]}}}]},
    {"role": "tool", "content": "7"}])");
  input.tools = dsft::text::Json::parse(R"([{"type": "function", "function": {"name": "f", "parameters": {}}}])");
  input.add_generation_prompt = true;
  return input;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto input = make_input();
  static const dsft::text::SpecialTokenMap tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  dsft::fuzz::allow_refusal([&] {
    const auto chat =
        dsft::text::ChatTemplate::parse(std::string(dsft::fuzz::text_of(data, size)), "template").render(input, tokens);
    size_t end = 0;
    for (const auto& span : chat.spans) {
      DSFT_CHECK(span.begin == end && span.end >= span.begin, "spans leave a gap at ", end);
      end = span.end;
    }
    DSFT_CHECK(end == chat.text.size(), "spans end at ", end);
  });
  return 0;
}

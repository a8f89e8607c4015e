// Tool calls in what a model wrote.
#include "fuzz/fuzz.h"
#include "text/tool_calls.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  dsft::fuzz::allow_refusal([&] { dsft::text::read_tool_calls(dsft::fuzz::text_of(data, size)); });
  return 0;
}

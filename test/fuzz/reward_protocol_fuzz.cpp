// What a reward program writes: its greeting, and replies to requests of several sizes; whole, and cut into pieces.
#include <stdexcept>

#include "fuzz/fuzz.h"
#include "rewards/protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace dsft;
  const std::string_view input = fuzz::text_of(data, size);
  fuzz::allow_refusal([&] { rewards::read_greeting(input); });
  for (const size_t num_samples : {size_t{0}, size_t{2}}) {
    fuzz::allow_refusal([&] {
      if (rewards::read_reply(input, 1, num_samples).size() != num_samples)
        throw std::logic_error("another number of rewards");
    });
  }
  fuzz::allow_refusal([&] {
    rewards::LineReader reader;
    std::string lines;
    for (size_t i = 0; i < input.size(); i += 7) {
      reader.add(input.substr(i, 7), 64);
      while (const auto line = reader.next()) {
        if (line->find('\n') != std::string::npos) throw std::logic_error("a line with a line break");
        lines += *line;
      }
    }
    if (lines.size() > input.size()) throw std::logic_error("more came out than went in");
  });
  return 0;
}

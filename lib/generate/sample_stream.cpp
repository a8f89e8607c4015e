#include "generate/sample_stream.h"

#include "base/error.h"

namespace dsft::generate {

uint64_t sample_stream(const SampleName& name) {
  struct Field {
    const char* what;
    uint64_t value;
    int bits;
  };
  uint64_t stream = 0;
  for (const auto& [what, value, bits] : {Field{"rollout", name.rollout, 22}, Field{"prompt", name.prompt, 28},
                                          Field{"generation", name.generation, 14}}) {
    if (value >> bits != 0)
      fail(ErrorKind::kData, what, " number ", value, ": random numbers are named by numbers below ",
           uint64_t{1} << bits, "; use fewer ", what, "s.");
    stream = stream << bits | value;
  }
  return stream;
}

}  // namespace dsft::generate

#include "generate/sampling.h"

namespace dsft::generate {

SamplingOptions sampling_of(const spec::GenerationDefaults& defaults) {
  SamplingOptions options;
  options.temperature = defaults.do_sample ? defaults.temperature.value_or(1.0) : 0.0;
  options.top_k = defaults.top_k.value_or(0);
  options.top_p = defaults.top_p.value_or(1.0);
  options.min_p = defaults.min_p.value_or(0.0);
  options.repetition_penalty = defaults.repetition_penalty.value_or(1.0);
  return options;
}

}  // namespace dsft::generate

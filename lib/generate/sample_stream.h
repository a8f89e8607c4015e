#pragma once

#include <cstdint>

namespace dsft::generate {

/// Which sample of a run's rollouts: with the seed and the number of the token it names a random number.
struct SampleName {
  uint64_t rollout = 0;     ///< the run's n-th generation, below 2^22
  uint64_t prompt = 0;      ///< the n-th prompt of that generation, below 2^28: a row may stand in it twice
  uint64_t generation = 0;  ///< the prompt's n-th answer (of an agent's, counted on through all agents), below 2^14
};

/// Request::stream of a sample. The three numbers stand side by side in it, so that no two samples of a run share a
/// stream; Philox, of whose counter it is a part, does the mixing. Throws kData where a number is too large.
uint64_t sample_stream(const SampleName& name);

}  // namespace dsft::generate

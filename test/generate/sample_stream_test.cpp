#include "generate/sample_stream.h"

#include <set>

#include "base/counter_random.h"
#include "catch_amalgamated.hpp"
#include "support/require_error.h"

using namespace dsft;
using generate::sample_stream;

TEST_CASE("No two samples share a stream, nor a random number within reach", "[generate]") {
  constexpr uint64_t kMostRollouts = (1u << 22) - 1, kMostPrompts = (1u << 28) - 1, kMostGenerations = (1u << 14) - 1;
  std::set<uint64_t> streams, values;
  size_t count = 0;
  for (const uint64_t rollout : {uint64_t{0}, uint64_t{1}, uint64_t{7}, kMostRollouts})
    for (const uint64_t prompt : {uint64_t{0}, uint64_t{1}, uint64_t{16384}, kMostPrompts})
      for (const uint64_t generation : {uint64_t{0}, uint64_t{1}, uint64_t{2}, kMostGenerations}) {
        const uint64_t stream = sample_stream({rollout, prompt, generation});
        streams.insert(stream);
        for (uint64_t token = 0; token < 8; ++token) values.insert(CounterStream(42, 1, stream).bits(token));
        ++count;
      }
  CHECK(streams.size() == count);
  CHECK(values.size() == 8 * count);
  CHECK(sample_stream({}) == 0);
}

TEST_CASE("Numbers that leave their place in a stream's name are refused", "[generate]") {
  test::require_error(ErrorKind::kData, {"rollout number 4194304"}, [] { sample_stream({1u << 22, 0, 0}); });
  test::require_error(ErrorKind::kData, {"prompt number 268435456"}, [] { sample_stream({0, 1u << 28, 0}); });
  test::require_error(ErrorKind::kData, {"generation number 16384"}, [] { sample_stream({0, 0, 1u << 14}); });
}

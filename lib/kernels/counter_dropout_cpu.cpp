#include "kernels/counter_dropout_cpu.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/vector_loops.h"

namespace dsft::kernels::cpu {
namespace {

constexpr int kLanes = 16;         // Philox blocks drawn together, one per vector lane
constexpr int kDrawsPerBlock = 8;  // 128 bits in 16-bit draws
constexpr int kChunk = kLanes * kDrawsPerBlock;

// Philox4x32-10 for kLanes consecutive blocks; words[w][lane].
[[gnu::always_inline]] inline void draw(DropoutStream stream, int64_t sample, uint32_t position, uint32_t first_block,
                                        uint32_t (&words)[4][kLanes]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    words[0][lane] = static_cast<uint32_t>(sample);
    words[1][lane] = position;
    words[2][lane] = static_cast<uint32_t>(sample >> 32);
    words[3][lane] = first_block + static_cast<uint32_t>(lane);
  }
  uint32_t key0 = stream.key0, key1 = stream.key1;
  for (int round = 0; round < 10; ++round) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const uint64_t product0 = uint64_t{0xD2511F53} * words[0][lane];
      const uint64_t product1 = uint64_t{0xCD9E8D57} * words[2][lane];
      words[0][lane] = static_cast<uint32_t>(product1 >> 32) ^ words[1][lane] ^ key0;
      words[1][lane] = static_cast<uint32_t>(product1);
      words[2][lane] = static_cast<uint32_t>(product0 >> 32) ^ words[3][lane] ^ key1;
      words[3][lane] = static_cast<uint32_t>(product0);
    }
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
}

template <typename T>
[[gnu::always_inline]] inline void dropout(const T* x, T* y, const int64_t* samples, const int64_t* positions,
                                           int64_t begin, int64_t end, int64_t size, DropoutStream stream) {
  uint32_t words[4][kLanes];
  uint16_t draws[kChunk];
  for (int64_t token = begin; token < end; ++token) {
    const T* in = x + token * size;
    T* out = y + token * size;
    for (int64_t first = 0; first < size; first += kChunk) {
      draw(stream, samples[token], static_cast<uint32_t>(positions[token]),
           static_cast<uint32_t>(first / kDrawsPerBlock), words);
      for (int lane = 0; lane < kLanes; ++lane)
        for (int word = 0; word < 4; ++word) {
          draws[lane * kDrawsPerBlock + 2 * word] = static_cast<uint16_t>(words[word][lane]);
          draws[lane * kDrawsPerBlock + 2 * word + 1] = static_cast<uint16_t>(words[word][lane] >> 16);
        }
      const int64_t count = std::min<int64_t>(kChunk, size - first);
      for (int64_t i = 0; i < count; ++i) {
        const float factor = draws[i] < stream.threshold ? 0.0f : stream.scale;
        out[first + i] = static_cast<T>(static_cast<float>(in[first + i]) * factor);
      }
    }
  }
}

}  // namespace

DropoutStream dropout_stream(double p, uint64_t module, uint64_t seed) {
  const uint64_t key = seed ^ module;
  const auto threshold = static_cast<uint32_t>(std::lround(p * 65536.0));
  DSFT_CHECK(p >= 0 && threshold < 65536, "dropout ", p, " keeps nothing");
  return {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), threshold,
          static_cast<float>(65536.0 / (65536.0 - threshold))};
}

#define DSFT_DROPOUT_OF(T)                                                                                      \
  template <>                                                                                                   \
  DSFT_VECTOR_CLONES void dropout_tokens<T>(const T* x, T* y, const int64_t* samples, const int64_t* positions, \
                                            int64_t begin, int64_t end, int64_t size, DropoutStream stream) {   \
    dropout(x, y, samples, positions, begin, end, size, stream);                                                \
  }
DSFT_DROPOUT_OF(float)
DSFT_DROPOUT_OF(c10::BFloat16)
DSFT_DROPOUT_OF(c10::Half)

}  // namespace dsft::kernels::cpu

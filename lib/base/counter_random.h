#pragma once

#include <array>
#include <cstdint>
#include <numeric>
#include <string_view>
#include <vector>

namespace dsft {

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a pure function from (key,
/// counter) to 128 random bits. dsft draws every random number from it, so that a value depends on what it is for and
/// never on who asked before.
inline std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 2> key, std::array<uint32_t, 4> counter) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

/// A stable 64-bit hash of a name (FNV-1a), to key streams by parameter or module name.
constexpr uint64_t hash_name(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

/// One number for a sample of an epoch: the epoch in its upper 32 bits, the sample in the lower.
constexpr int64_t sample_key(int64_t epoch, int64_t sample) {
  return static_cast<int64_t>(static_cast<uint64_t>(epoch) << 32 | static_cast<uint32_t>(sample));
}

/// A stream of random values addressed by index: value(i) is the same whatever was drawn before.
class CounterStream {
 public:
  /// `seed` of the run; `purpose` separates streams (hash_name("shuffle"), a parameter's name, ...); `part` such as an
  /// epoch.
  CounterStream(uint64_t seed, uint64_t purpose, uint64_t part = 0)
      : key_{static_cast<uint32_t>(seed ^ (purpose >> 32)), static_cast<uint32_t>((seed >> 32) ^ purpose)},
        part_(part) {}

  /// Of seed and purpose: Philox's key.
  std::array<uint32_t, 2> key() const { return key_; }

  /// 64 random bits at an index.
  uint64_t bits(uint64_t index) const {
    const auto words = block(index >> 1);
    return (index & 1) ? (uint64_t{words[2]} << 32 | words[3]) : (uint64_t{words[0]} << 32 | words[1]);
  }

  /// Uniform in [0, 1), 53 bits.
  double uniform(uint64_t index) const { return static_cast<double>(bits(index) >> 11) * 0x1.0p-53; }

  /// Uniform in [0, bound) without bias worth naming (128-bit multiply).
  uint64_t below(uint64_t index, uint64_t bound) const {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(bits(index)) * bound) >> 64);
  }

  /// A permutation of 0..n-1 (Fisher-Yates on this stream).
  std::vector<int64_t> permutation(int64_t n) const {
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), int64_t{0});
    for (int64_t i = n - 1; i > 0; --i)
      std::swap(order[i], order[below(static_cast<uint64_t>(i), static_cast<uint64_t>(i) + 1)]);
    return order;
  }

 private:
  std::array<uint32_t, 4> block(uint64_t index) const {
    return philox4x32(key_, {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                             static_cast<uint32_t>(part_), static_cast<uint32_t>(part_ >> 32)});
  }

  std::array<uint32_t, 2> key_;
  uint64_t part_;
};

}  // namespace dsft

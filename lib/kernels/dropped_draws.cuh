// Which elements dropout keeps, drawn inside the kernels of the dropped products.
#pragma once

#include <algorithm>

#include "kernels/dropped_products_cuda.h"
#include "kernels/tensor_core.cuh"

namespace dsft::kernels::cuda {

constexpr int kDraws = 8;  ///< features that one block of Philox draws for
constexpr int kRounds = 10;

/// DroppedProducts with the keys of every round of Philox: constants, where the adapter is one.
struct Drawn {
  struct Adapter {
    int first_rank, rank;
    uint32_t threshold;
    float scale;
    uint32_t keys[kRounds][2];
  };
  Adapter adapters[kMostDroppedAdapters];
  int num_adapters, in, ranks;
  int64_t tokens;
  const int64_t *samples, *positions;
};

/// The numbers of tokens that their masks are drawn by.
struct TokenKey {
  uint32_t sample, position, epoch;
};

__device__ inline TokenKey key_of(const Drawn& products, int64_t token) {
  const int64_t sample = products.samples[token];
  return {static_cast<uint32_t>(sample), static_cast<uint32_t>(products.positions[token]),
          static_cast<uint32_t>(sample >> 32)};
}

/// The 16-bit numbers of eight features, two a word (philox of kernels/cuda_common.cuh).
__device__ inline Words draw(const TokenKey& token, int first_feature, const Drawn::Adapter& adapter) {
  Words drawn = {{token.sample, token.position, token.epoch, static_cast<uint32_t>(first_feature / kDraws)}};
  uint32_t(&words)[4] = drawn.words;
#pragma unroll
  for (int round = 0; round < kRounds; ++round) philox_round(words, adapter.keys[round][0], adapter.keys[round][1]);
  return drawn;
}

__device__ inline bool keeps_lower(uint32_t drawn, uint32_t threshold) {
  return drawn << 16 >= threshold << 16;
}
__device__ inline bool keeps_upper(uint32_t drawn, uint32_t threshold) {
  return drawn >= threshold << 16;
}

/// What the mask leaves of eight features.
__device__ inline Words keep(const Words& x, const Words& drawn, uint32_t threshold) {
  Words kept;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    kept.words[i] = x.words[i] & ((keeps_lower(drawn.words[i], threshold) ? 0xffffu : 0u) |
                                  (keeps_upper(drawn.words[i], threshold) ? 0xffff0000u : 0u));
  return kept;
}

/// The adapters from `first` on, up to `count` of them.
inline Drawn drawn_of(const DroppedProducts& products, int first, int count) {
  Drawn drawn = {};
  drawn.num_adapters = std::min(count, products.num_adapters - first);
  for (int i = 0; i < drawn.num_adapters; ++i) {
    const DroppedProducts::Adapter& from = products.adapters[first + i];
    Drawn::Adapter& to = drawn.adapters[i];
    to = {from.first_rank, from.rank, from.random.threshold, from.random.scale, {}};
    for (uint32_t round = 0; round < kRounds; ++round) {
      to.keys[round][0] = from.random.key0 + round * kPhiloxWeyl0;
      to.keys[round][1] = from.random.key1 + round * kPhiloxWeyl1;
    }
  }
  drawn.in = products.in;
  drawn.ranks = products.ranks;
  drawn.tokens = products.tokens;
  drawn.samples = products.samples;
  drawn.positions = products.positions;
  return drawn;
}

}  // namespace dsft::kernels::cuda

// Each lane takes eight neighbouring features of a token: those that one block of Philox draws for.
#include <algorithm>

#include "kernels/dependent_launch.cuh"
#include "kernels/dropped_products_cuda.h"
#include "kernels/tensor_core.cuh"

namespace dsft::kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kDraws = 8;  // features that one block of Philox draws for
constexpr int kStep = 32;  // features of the four lanes of a token
constexpr int kSlab = 64;  // features of a block
constexpr int kTileTokens = 16;
constexpr int kMostRank = 128;          // of an adapter
constexpr int kSlabStride = kSlab + 8;  // of A's rows in shared memory: eight of them meet no bank twice
constexpr int kMostSharedBytes = 96 << 10;

constexpr int padded(int rank) {
  return (rank + 15) / 16 * 16;
}

// The numbers of tokens that their masks are drawn by.
struct TokenKey {
  uint32_t sample, position, epoch;
};

__device__ TokenKey key_of(const DroppedProducts& products, int64_t token) {
  const int64_t sample = products.samples[token];
  return {static_cast<uint32_t>(sample), static_cast<uint32_t>(products.positions[token]),
          static_cast<uint32_t>(sample >> 32)};
}

// The 16-bit numbers of eight features, two a word.
__device__ Words draw(const TokenKey& token, int first_feature, const cpu::DropoutStream& random) {
  Words drawn = {{token.sample, token.position, token.epoch, static_cast<uint32_t>(first_feature / kDraws)}};
  philox(drawn.words, random.key0, random.key1);
  return drawn;
}

__device__ bool keeps_lower(uint32_t drawn, uint32_t threshold) {
  return drawn << 16 >= threshold << 16;
}
__device__ bool keeps_upper(uint32_t drawn, uint32_t threshold) {
  return drawn >= threshold << 16;
}

// What the mask leaves of eight features.
__device__ Words keep(const Words& x, const TokenKey& token, int first_feature, const cpu::DropoutStream& random) {
  if (random.threshold == 0) return x;
  const Words drawn = draw(token, first_feature, random);
  Words kept;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    kept.words[i] = x.words[i] & ((keeps_lower(drawn.words[i], random.threshold) ? 0xffffu : 0u) |
                                  (keeps_upper(drawn.words[i], random.threshold) ? 0xffff0000u : 0u));
  return kept;
}

// Four matrices of 8 x 8, transposed: lane 4 g + t gets of each rows 2 t and 2 t + 1 of column g. Lanes 8 i to 8 i + 7
// say where the rows of matrix i lie in shared memory.
template <typename T>
__device__ Words load_transposed(const T* row) {
  Words out;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out.words[0]), "=r"(out.words[1]), "=r"(out.words[2]), "=r"(out.words[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
  return out;
}

template <typename T>
__device__ void store_words(T* to, const Words& words) {
  *reinterpret_cast<uint4*>(to) = make_uint4(words.words[0], words.words[1], words.words[2], words.words[3]);
}

// low = A(dropout(x)) of one adapter and 16 kTokenTiles tokens. The warps have slices of the features; the order in
// which a product sums over them is free.
template <typename T, int kRankTiles, int kTokenTiles>
__global__ void __launch_bounds__(kThreads) multiply(DroppedProducts products, const T* x, const T* a, T* low) {
  const DroppedProducts::Adapter& adapter = products.adapters[blockIdx.x];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  const int64_t first_token = int64_t{blockIdx.y} * kTileTokens * kTokenTiles, in = products.in;
  TokenKey keys[2 * kTokenTiles];
  const T* rows[2 * kTokenTiles];
#pragma unroll
  for (int i = 0; i < 2 * kTokenTiles; ++i) {
    const int64_t token = min(first_token + 8 * i + g, products.tokens - 1);
    keys[i] = key_of(products, token);
    rows[i] = x + token * in + 8 * t;
  }
  const T* const own_a = a + adapter.first_rank * in + 8 * t;
  float sums[kTokenTiles][kRankTiles][4] = {};
#pragma unroll 2
  for (int first = warp * kStep; first < products.in; first += kWarps * kStep) {
    Words kept[2 * kTokenTiles];
#pragma unroll
    for (int i = 0; i < 2 * kTokenTiles; ++i) kept[i] = load_words(rows[i] + first);
#pragma unroll
    for (int i = 0; i < 2 * kTokenTiles; ++i) kept[i] = keep(kept[i], keys[i], first + 8 * t, adapter.random);
#pragma unroll
    for (int tile = 0; tile < kRankTiles; ++tile) {
      if (8 * tile >= adapter.rank) break;
      const Words of_a = load_words(own_a + (8 * tile + g) * in + first);
#pragma unroll
      for (int m = 0; m < kTokenTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const uint32_t(&upper)[4] = kept[2 * m].words, (&lower)[4] = kept[2 * m + 1].words;
          const uint32_t fragment[4] = {upper[2 * half], lower[2 * half], upper[2 * half + 1], lower[2 * half + 1]};
          multiply_add(sums[m][tile], fragment, of_a.words[2 * half], of_a.words[2 * half + 1], T{});
        }
    }
  }

  constexpr int kSums = kTokenTiles * kRankTiles * 4;
  __shared__ float others[kWarps / 2][kSums][kWarp];
  float(&flat)[kSums] = reinterpret_cast<float(&)[kSums]>(sums);
#pragma unroll
  for (int half = kWarps / 2; half > 0; half /= 2) {
    if (warp >= half && warp < 2 * half)
#pragma unroll
      for (int i = 0; i < kSums; ++i) others[warp - half][i][lane] = flat[i];
    __syncthreads();
    if (warp < half)
#pragma unroll
      for (int i = 0; i < kSums; ++i) flat[i] += others[warp][i][lane];
    __syncthreads();
  }
  if (warp != 0) return;
  using Two = Piece<T, 2>;
#pragma unroll
  for (int m = 0; m < kTokenTiles; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t token = first_token + kTileTokens * m + 8 * half + g;
      if (token >= products.tokens) continue;
#pragma unroll
      for (int tile = 0; tile < kRankTiles; ++tile) {
        if (8 * tile >= adapter.rank) break;
        const float(&own)[4] = sums[m][tile];
        *reinterpret_cast<Two*>(low + token * products.ranks + adapter.first_rank + 8 * tile + 2 * t) =
            Two{{from_float<T>(own[2 * half] * adapter.random.scale),
                 from_float<T>(own[2 * half + 1] * adapter.random.scale)}};
      }
    }
}

// dx += dropout(d_low A): kSlab features of sixteen tokens a warp. Column c of the product's tile j is the slab's
// feature 8 (c / 2) + 2 j + c % 2 in each kStep of them, so that lane 4 g + t gets features 8 t to 8 t + 7.
template <typename T>
__global__ void __launch_bounds__(kThreads) add(DroppedProducts products, const T* d_low, const T* a, T* dx) {
  extern __shared__ __align__(16) unsigned char shared[];
  T* const slab = reinterpret_cast<T*>(shared);  // [ranks, each adapter's padded; kSlabStride]
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  const int first_feature = static_cast<int>(blockIdx.x) * kSlab,
            num_steps = min(2, (products.in - first_feature) / kStep);
  const int64_t in = products.in;

  int first_row = 0;
  for (int i = 0; i < products.num_adapters; ++i) {
    const DroppedProducts::Adapter& adapter = products.adapters[i];
    for (int piece = threadIdx.x; piece < padded(adapter.rank) * (kSlab / 8); piece += kThreads) {
      const int row = piece / (kSlab / 8), eighth = piece % (kSlab / 8), step = eighth / 4, quarter = eighth % 4;
      Words words = {};
      if (row < adapter.rank && step < num_steps)
        words = load_words(a + (adapter.first_rank + row) * in + first_feature + 8 * eighth);
      T* const to = slab + (first_row + row) * kSlabStride + step * kStep + 2 * quarter;
#pragma unroll
      for (int j = 0; j < 4; ++j) *reinterpret_cast<uint32_t*>(to + 8 * j) = words.words[j];
    }
    first_row += padded(adapter.rank);
  }
  __syncthreads();

  const int64_t first_token = (int64_t{blockIdx.y} * kWarps + warp) * kTileTokens;
  if (first_token >= products.tokens) return;
  int64_t tokens[2];
  TokenKey keys[2];
  const T* low_rows[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    tokens[half] = min(first_token + 8 * half + g, products.tokens - 1);
    keys[half] = key_of(products, tokens[half]);
    low_rows[half] = d_low + tokens[half] * products.ranks + 2 * t;
  }
  float total[2][2][kDraws] = {};  // by step of features and half of the tokens
  first_row = 0;
  for (int i = 0; i < products.num_adapters; ++i) {
    const DroppedProducts::Adapter& adapter = products.adapters[i];
    float sums[2][4][4] = {};
    for (int rank = 0; rank < adapter.rank; rank += 16) {
      uint32_t fragment[4];
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const int column = rank + 8 * (word / 2);
        fragment[word] = column < adapter.rank
                             ? *reinterpret_cast<const uint32_t*>(low_rows[word % 2] + adapter.first_rank + column)
                             : 0;
      }
      const T* const row = slab + (first_row + rank + lane % 16) * kSlabStride + 8 * (lane / 16);
#pragma unroll
      for (int step = 0; step < 2; ++step)
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          const Words of_a = load_transposed(row + step * kStep + 16 * pair);
          multiply_add(sums[step][2 * pair], fragment, of_a.words[0], of_a.words[1], T{});
          multiply_add(sums[step][2 * pair + 1], fragment, of_a.words[2], of_a.words[3], T{});
        }
    }
    first_row += padded(adapter.rank);
#pragma unroll
    for (int step = 0; step < 2; ++step)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Words drawn = {{~0u, ~0u, ~0u, ~0u}};
        if (adapter.random.threshold != 0)
          drawn = draw(keys[half], first_feature + step * kStep + 8 * t, adapter.random);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const bool lower = keeps_lower(drawn.words[j], adapter.random.threshold),
                     upper = keeps_upper(drawn.words[j], adapter.random.threshold);
          total[step][half][2 * j] += lower ? sums[step][j][2 * half] * adapter.random.scale : 0.0f;
          total[step][half][2 * j + 1] += upper ? sums[step][j][2 * half + 1] * adapter.random.scale : 0.0f;
        }
      }
  }
#pragma unroll
  for (int step = 0; step < 2; ++step)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (step >= num_steps || first_token + 8 * half + g >= products.tokens) continue;
      T* const to = dx + tokens[half] * in + first_feature + step * kStep + 8 * t;
      Vector<T> values = load(to);
#pragma unroll
      for (int k = 0; k < kDraws; ++k)
        values.values[k] = from_float<T>(to_float(values.values[k]) + total[step][half][k]);
      store(to, values);
    }
}

// Sums of d_low^T dropout(x) over a part of the tokens, of one adapter: kSlab features a block, of which a warp has
// kStep and every fourth tile of tokens.
template <typename T, int kRankTiles>  // of sixteen
__global__ void __launch_bounds__(kThreads)
    multiply_by(DroppedProducts products, const T* d_low, const T* x, float* parts, int64_t tokens_of_part) {
  constexpr int kLowStride = 16 * kRankTiles + 8, kFeatureGroups = kSlab / kStep,
                kLanesOfTokens = kWarps / kFeatureGroups;
  struct Tiles {
    T x[kWarps][kTileTokens * kStep];
    T low[kWarps][kTileTokens * kLowStride];
  };
  constexpr int kSums = kRankTiles * 4 * 4;
  union Shared {
    Tiles tiles;
    float sums[kFeatureGroups][kSums][kWarp];
    __device__ Shared() {}
  };
  __shared__ __align__(16) Shared shared;

  const DroppedProducts::Adapter& adapter = products.adapters[blockIdx.x];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  const int group = warp % kFeatureGroups, turn = warp / kFeatureGroups;
  const int first_feature = static_cast<int>(blockIdx.y) * kSlab + group * kStep;
  const bool has_features = first_feature < products.in;
  const int64_t in = products.in, begin = int64_t{blockIdx.z} * tokens_of_part,
                end = min(begin + tokens_of_part, products.tokens);
  T *const own_x = shared.tiles.x[warp], *const own_low = shared.tiles.low[warp];
  float sums[kRankTiles][4][4] = {};

  for (int64_t first = begin + turn * kTileTokens; has_features && first < end; first += kLanesOfTokens * kTileTokens) {
    Words of_x[2], of_low[kRankTiles];
    TokenKey keys[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t token = first + 8 * half + g;
      of_x[half] = token < end ? load_words(x + token * in + first_feature + 8 * t) : Words{};
      keys[half] = key_of(products, min(token, end - 1));
    }
#pragma unroll
    for (int i = 0; i < kRankTiles; ++i) {
      const int piece = i * kWarp + lane, row = piece / (2 * kRankTiles), eighth = piece % (2 * kRankTiles);
      of_low[i] = first + row < end && 8 * eighth < adapter.rank
                      ? load_words(d_low + (first + row) * products.ranks + adapter.first_rank + 8 * eighth)
                      : Words{};
    }
    __syncwarp();  // the tiles before have been read
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = 8 * half + g;
      store_words(own_x + row * kStep + (t ^ row / 2 % 4) * 8,
                  keep(of_x[half], keys[half], first_feature + 8 * t, adapter.random));
    }
#pragma unroll
    for (int i = 0; i < kRankTiles; ++i) {
      const int piece = i * kWarp + lane, row = piece / (2 * kRankTiles), eighth = piece % (2 * kRankTiles);
      store_words(own_low + row * kLowStride + 8 * eighth, of_low[i]);
    }
    __syncwarp();
    Words kept[2];  // of each pair of tiles of eight features
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const int row = lane % 16, eighth = 2 * pair + lane / 16;
      kept[pair] = load_transposed(own_x + row * kStep + (eighth ^ row / 2 % 4) * 8);
    }
#pragma unroll
    for (int tile = 0; tile < kRankTiles; ++tile) {
      const Words ranks =
          load_transposed(own_low + (lane % 8 + lane / 16 * 8) * kLowStride + 16 * tile + lane / 8 % 2 * 8);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        multiply_add(sums[tile][j], ranks.words, kept[j / 2].words[j % 2 * 2], kept[j / 2].words[j % 2 * 2 + 1], T{});
    }
  }

  float(&flat)[kSums] = reinterpret_cast<float(&)[kSums]>(sums);
#pragma unroll
  for (int other = 1; other < kLanesOfTokens; ++other) {
    __syncthreads();
    if (turn == other)
#pragma unroll
      for (int i = 0; i < kSums; ++i) shared.sums[group][i][lane] = flat[i];
    __syncthreads();
    if (turn == 0)
#pragma unroll
      for (int i = 0; i < kSums; ++i) flat[i] += shared.sums[group][i][lane];
  }
  if (turn != 0 || !has_features) return;
  float* const part = parts + int64_t{blockIdx.z} * products.ranks * in;
#pragma unroll
  for (int tile = 0; tile < kRankTiles; ++tile)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int rank = 16 * tile + 8 * half + g;
      if (rank >= adapter.rank) continue;
#pragma unroll
      for (int j = 0; j < 4; ++j)
        *reinterpret_cast<float2*>(part + (adapter.first_rank + rank) * in + first_feature + 8 * j + 2 * t) =
            make_float2(sums[tile][j][2 * half] * adapter.random.scale,
                        sums[tile][j][2 * half + 1] * adapter.random.scale);
    }
}

__global__ void __launch_bounds__(kThreads) add_up(const float* parts, float* sum, int64_t size, int num_parts) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= size) return;
  float total = 0;
  for (int part = 0; part < num_parts; ++part) total += parts[part * size + index];
  sum[index] = total;
}

int largest_rank(const DroppedProducts& products) {
  int largest = 0;
  for (int i = 0; i < products.num_adapters; ++i) largest = std::max(largest, products.adapters[i].rank);
  return largest;
}

int slab_bytes(const DroppedProducts& products) {
  int rows = 0;
  for (int i = 0; i < products.num_adapters; ++i) rows += padded(products.adapters[i].rank);
  return rows * kSlabStride * 2;
}

// Calls body with the type of 16 bits.
template <typename Body>
void visit_narrow(FloatType type, Body body) {
  DSFT_CHECK(type != FloatType::kFloat, "dropped products in fp32");
  if (type == FloatType::kHalf)
    body(__half{});
  else
    body(__nv_bfloat16{});
}

// Calls body with the least of these tiles that holds the ranks.
template <int kTileRanks, typename Body>
void visit_rank_tiles(int rank, Body body) {
  if constexpr (kTileRanks == 8)
    if (rank <= 8) return body(std::integral_constant<int, 1>{});
  if (rank <= 16) return body(std::integral_constant<int, 16 / kTileRanks>{});
  if (rank <= 32) return body(std::integral_constant<int, 32 / kTileRanks>{});
  if (rank <= 64) return body(std::integral_constant<int, 64 / kTileRanks>{});
  body(std::integral_constant<int, kMostRank / kTileRanks>{});
}

unsigned blocks_of(int64_t size, int64_t block) {
  return static_cast<unsigned>((size + block - 1) / block);
}

}  // namespace

bool has_dropped_products(const DroppedProducts& products, FloatType type) {
  if (type == FloatType::kFloat || products.in % kStep != 0 || products.tokens == 0) return false;
  for (int i = 0; i < products.num_adapters; ++i)
    if (products.adapters[i].rank % 8 != 0 || products.adapters[i].rank > kMostRank) return false;
  // a grid has no more rows than 65535
  return products.tokens < int64_t{65535} * kTileTokens && slab_bytes(products) <= kMostSharedBytes &&
         device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) >= kMostSharedBytes &&
         device_attribute(cudaDevAttrComputeCapabilityMajor) >= 8;
}

void multiply_dropped(const DroppedProducts& products, const void* x, const void* a, void* low, FloatType type,
                      Stream stream) {
  visit_narrow(type, [&](auto element) {
    using T = decltype(element);
    visit_rank_tiles<8>(largest_rank(products), [&](auto tiles) {
      constexpr int kTokenTiles = tiles() <= 4 ? 2 : 1;
      const dim3 grid(static_cast<unsigned>(products.num_adapters),
                      blocks_of(products.tokens, kTileTokens * kTokenTiles));
      multiply<T, tiles(), kTokenTiles><<<grid, kThreads, 0, stream_of(stream)>>>(
          products, static_cast<const T*>(x), static_cast<const T*>(a), static_cast<T*>(low));
    });
  });
  check_launch("multiply_dropped");
}

void add_dropped(const DroppedProducts& products, const void* d_low, const void* a, void* dx, FloatType type,
                 Stream stream) {
  visit_narrow(type, [&](auto element) {
    using T = decltype(element);
    static const bool is_allowed =
        cudaFuncSetAttribute(add<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostSharedBytes) == cudaSuccess;
    DSFT_CHECK(is_allowed, "no shared memory for add_dropped");
    const dim3 grid(blocks_of(products.in, kSlab), blocks_of(products.tokens, kTileTokens * kWarps));
    add<T><<<grid, kThreads, static_cast<size_t>(slab_bytes(products)), stream_of(stream)>>>(
        products, static_cast<const T*>(d_low), static_cast<const T*>(a), static_cast<T*>(dx));
  });
  check_launch("add_dropped");
}

int64_t multiply_by_dropped_num_parts(const DroppedProducts& products) {
  constexpr int64_t kLeastTokens = 256;  // of a part
  const int64_t blocks = int64_t{products.num_adapters} * blocks_of(products.in, kSlab),
                wanted = 4 * device_attribute(cudaDevAttrMultiProcessorCount);
  return std::clamp<int64_t>((wanted + blocks - 1) / blocks, 1, blocks_of(products.tokens, kLeastTokens));
}

void multiply_by_dropped(const DroppedProducts& products, const void* d_low, const void* x, float* parts, float* da,
                         FloatType type, Stream stream) {
  const int64_t num_parts = multiply_by_dropped_num_parts(products), size = int64_t{products.ranks} * products.in;
  const int64_t tokens_of_part = (products.tokens + num_parts - 1) / num_parts;
  float* const to = num_parts == 1 ? da : parts;
  visit_narrow(type, [&](auto element) {
    using T = decltype(element);
    visit_rank_tiles<16>(largest_rank(products), [&](auto tiles) {
      const dim3 grid(static_cast<unsigned>(products.num_adapters), blocks_of(products.in, kSlab),
                      static_cast<unsigned>(num_parts));
      multiply_by<T, tiles()><<<grid, kThreads, 0, stream_of(stream)>>>(products, static_cast<const T*>(d_low),
                                                                        static_cast<const T*>(x), to, tokens_of_part);
    });
  });
  if (num_parts > 1)
    add_up<<<blocks_of(size, kThreads), kThreads, 0, stream_of(stream)>>>(parts, da, size, static_cast<int>(num_parts));
  check_launch("multiply_by_dropped");
}

}  // namespace dsft::kernels::cuda

// Each lane takes eight neighbouring features of a token: those that one block of Philox draws for.
#include <algorithm>

#include "kernels/dependent_launch.cuh"
#include "kernels/dropped_draws.cuh"
#include "kernels/tensor_core.cuh"

namespace dsft::kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kStep = 32;  // features of the four lanes of a token
constexpr int kSlab = 64;  // features of a block
constexpr int kTileTokens = 16;
constexpr int kMostRank = 128;          // of an adapter
constexpr int kSlabStride = kSlab + 8;  // of A's rows in shared memory: eight of them meet no bank twice
constexpr int kMostSharedBytes = 60 << 10;

// low = A(dropout(x)) of 16 kTokenTiles tokens and up to kAdapters adapters. The warps have slices of the features; the
// order in which a product sums over them is free.
template <typename T, int kAdapters, int kRankTiles, int kTokenTiles>
__global__ void __launch_bounds__(kThreads, 2)
    multiply(const __grid_constant__ Drawn products, const T* x, const T* a, T* low) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  const int64_t first_token = int64_t{blockIdx.x} * kTileTokens * kTokenTiles, in = products.in;
  TokenKey keys[2 * kTokenTiles];
  const T* rows[2 * kTokenTiles];
#pragma unroll
  for (int i = 0; i < 2 * kTokenTiles; ++i) {
    const int64_t token = min(first_token + 8 * i + g, products.tokens - 1);
    keys[i] = key_of(products, token);
    rows[i] = x + token * in + 8 * t;
  }
  float sums[kAdapters][kRankTiles][kTokenTiles][4] = {};
#pragma unroll 1
  for (int first = warp * kStep; first < products.in; first += kWarps * kStep) {
    Words whole[2 * kTokenTiles];
#pragma unroll
    for (int i = 0; i < 2 * kTokenTiles; ++i) whole[i] = load_words(rows[i] + first);
#pragma unroll
    for (int n = 0; n < kAdapters; ++n) {
      if (n >= products.num_adapters) break;
      const Drawn::Adapter& adapter = products.adapters[n];
      Words kept[2 * kTokenTiles];
#pragma unroll
      for (int i = 0; i < 2 * kTokenTiles; ++i)
        kept[i] = keep(whole[i], draw(keys[i], first + 8 * t, adapter), adapter.threshold);
#pragma unroll
      for (int tile = 0; tile < kRankTiles; ++tile) {
        if (8 * tile >= adapter.rank) break;
        const Words of_a = load_words(a + (adapter.first_rank + 8 * tile + g) * in + first + 8 * t);
#pragma unroll
        for (int m = 0; m < kTokenTiles; ++m)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const uint32_t(&upper)[4] = kept[2 * m].words, (&lower)[4] = kept[2 * m + 1].words;
            const uint32_t fragment[4] = {upper[2 * half], lower[2 * half], upper[2 * half + 1], lower[2 * half + 1]};
            multiply_add(sums[n][tile][m], fragment, of_a.words[2 * half], of_a.words[2 * half + 1], T{});
          }
      }
    }
  }

  constexpr int kSums = kAdapters * kRankTiles * kTokenTiles * 4;
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
  for (int n = 0; n < kAdapters; ++n) {
    if (n >= products.num_adapters) break;
    const Drawn::Adapter& adapter = products.adapters[n];
#pragma unroll
    for (int tile = 0; tile < kRankTiles; ++tile) {
      if (8 * tile >= adapter.rank) break;
#pragma unroll
      for (int m = 0; m < kTokenTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int64_t token = first_token + kTileTokens * m + 8 * half + g;
          const float(&own)[4] = sums[n][tile][m];
          if (token < products.tokens)
            *reinterpret_cast<Two*>(low + token * products.ranks + adapter.first_rank + 8 * tile + 2 * t) =
                Two{{from_float<T>(own[2 * half] * adapter.scale), from_float<T>(own[2 * half + 1] * adapter.scale)}};
        }
    }
  }
}

constexpr int kFeatureGroups = kSlab / kStep, kTurns = kWarps / kFeatureGroups;  // of multiply_back's warps

// T: of 16 bits
template <typename T, int kTiles>  // of sixteen ranks
union BackShared {
  static constexpr int kLowStride = 16 * kTiles + 8, kSums = kTiles * 4 * 4;
  struct {
    T a[16 * kTiles * kSlabStride];
    T x[kWarps][kTileTokens * kStep];
    T low[kWarps][kTileTokens * kLowStride];
  } operands;
  float sums[kFeatureGroups][kSums][kWarp];
};

// The backward pass of multiply: kSlab features of a part of the tokens, of which a warp has kStep and every fourth
// tile of tokens, and draws each mask once for both products. dx += dropout(d_low A): column c of its tile j is feature
// 8 (c / 2) + 2 j + c % 2, so that lane 4 g + t gets features 8 t to 8 t + 7. A part's d_low^T dropout(x), of up to
// kAdapters adapters. Where dx or parts is null, the other alone.
template <typename T, int kAdapters, int kRankTiles>  // of sixteen
__global__ void __launch_bounds__(kThreads, kAdapters* kRankTiles <= 4 ? 2 : 1)
    multiply_back(const __grid_constant__ Drawn products, const T* d_low, const T* x, const T* a, T* dx, float* parts,
                  int64_t tokens_of_part) {
  constexpr int kTiles = kAdapters * kRankTiles, kLowStride = BackShared<T, kTiles>::kLowStride,
                kSums = BackShared<T, kTiles>::kSums;
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<BackShared<T, kTiles>*>(shared_bytes);

  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  const int group = warp % kFeatureGroups, turn = warp / kFeatureGroups;
  const int first_of_slab = static_cast<int>(blockIdx.x) * kSlab, first_feature = first_of_slab + group * kStep;
  const bool has_features = first_feature < products.in;
  const int64_t in = products.in, begin = int64_t{blockIdx.y} * tokens_of_part,
                end = min(begin + tokens_of_part, products.tokens);
  T *const slab = shared.operands.a, *const own_x = shared.operands.x[warp], *const own_low = shared.operands.low[warp];
  float sums[kAdapters][kRankTiles][4][4] = {};

  for (int piece = threadIdx.x; dx != nullptr && piece < 16 * kTiles * (kSlab / 8); piece += kThreads) {
    const int row = piece / (kSlab / 8), eighth = piece % (kSlab / 8), n = row / (16 * kRankTiles),
              rank = row % (16 * kRankTiles);
    Words words = {};
    if (n < products.num_adapters && rank < products.adapters[n].rank && first_of_slab + 8 * eighth < products.in)
      words = load_words(a + (products.adapters[n].first_rank + rank) * in + first_of_slab + 8 * eighth);
    T* const to = slab + row * kSlabStride + eighth / 4 * kStep + 2 * (eighth % 4);
#pragma unroll
    for (int j = 0; j < 4; ++j) *reinterpret_cast<uint32_t*>(to + 8 * j) = words.words[j];
  }
  __syncthreads();

#pragma unroll 1
  for (int64_t first = begin + turn * kTileTokens; has_features && first < end; first += kTurns * kTileTokens) {
    int64_t place[2];  // of the lane's features in x and dx
    bool is_there[2];
    TokenKey keys[2];
    Words whole[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t token = min(first + 8 * half + g, end - 1);
      is_there[half] = first + 8 * half + g < end;
      place[half] = token * in + first_feature + 8 * t;
      keys[half] = key_of(products, token);
      whole[half] = parts != nullptr && is_there[half] ? load_words(x + place[half]) : Words{};
    }
    // lane 2 r + e takes eight ranks, from rank 8 e of each tile, of token r
    const T* const low_row = d_low + min(first + lane / 2, end - 1) * products.ranks + lane % 2 * 8;
    Words of_low[kAdapters][kRankTiles];
#pragma unroll
    for (int n = 0; n < kAdapters; ++n)
#pragma unroll
      for (int tile = 0; tile < kRankTiles; ++tile) {
        const bool is_read =
            n < products.num_adapters && first + lane / 2 < end && 16 * tile + lane % 2 * 8 < products.adapters[n].rank;
        of_low[n][tile] = is_read ? load_words(low_row + products.adapters[n].first_rank + 16 * tile) : Words{};
      }
    __syncwarp();  // the tile before has been read
#pragma unroll
    for (int n = 0; n < kAdapters; ++n)
#pragma unroll
      for (int tile = 0; tile < kRankTiles; ++tile)
        store_words(own_low + lane / 2 * kLowStride + 16 * (n * kRankTiles + tile) + lane % 2 * 8, of_low[n][tile]);
    float total[2][kDraws] = {};  // of dx, by half of the tokens
#pragma unroll
    for (int n = 0; n < kAdapters; ++n) {
      if (n >= products.num_adapters) break;
      const Drawn::Adapter& adapter = products.adapters[n];
      const Words drawn[2] = {draw(keys[0], first_feature + 8 * t, adapter),
                              draw(keys[1], first_feature + 8 * t, adapter)};
      __syncwarp();  // the tile before has been read
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = 8 * half + g;
        store_words(own_x + row * kStep + (t ^ row / 2 % 4) * 8, keep(whole[half], drawn[half], adapter.threshold));
      }
      __syncwarp();
      Words kept[2];  // of each pair of tiles of eight features
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        const int row = lane % 16, eighth = 2 * pair + lane / 16;
        kept[pair] = load_transposed(own_x + row * kStep + (eighth ^ row / 2 % 4) * 8);
      }
      float products_of_a[4][4] = {};
#pragma unroll
      for (int tile = 0; tile < kRankTiles; ++tile) {
        const int first_rank = 16 * (n * kRankTiles + tile);
        const Words ranks =
            load_transposed(own_low + (lane % 8 + lane / 16 * 8) * kLowStride + first_rank + lane / 8 % 2 * 8);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          multiply_add(sums[n][tile][j], ranks.words, kept[j / 2].words[j % 2 * 2], kept[j / 2].words[j % 2 * 2 + 1],
                       T{});
        const Words tokens = load_matrices(own_low + lane % 16 * kLowStride + first_rank + lane / 16 * 8);
        const T* const row = slab + (first_rank + lane % 16) * kSlabStride + group * kStep + 8 * (lane / 16);
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          const Words of_a = load_transposed(row + 16 * pair);
          multiply_add(products_of_a[2 * pair], tokens.words, of_a.words[0], of_a.words[1], T{});
          multiply_add(products_of_a[2 * pair + 1], tokens.words, of_a.words[2], of_a.words[3], T{});
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float(&own)[4] = products_of_a[j];
          float(&to)[kDraws] = total[half];
          if (keeps_lower(drawn[half].words[j], adapter.threshold))
            to[2 * j] = fmaf(own[2 * half], adapter.scale, to[2 * j]);
          if (keeps_upper(drawn[half].words[j], adapter.threshold))
            to[2 * j + 1] = fmaf(own[2 * half + 1], adapter.scale, to[2 * j + 1]);
        }
    }
    if (dx == nullptr) continue;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (!is_there[half]) continue;
      Vector<T> values = load(dx + place[half]);
#pragma unroll
      for (int k = 0; k < kDraws; ++k) values.values[k] = from_float<T>(to_float(values.values[k]) + total[half][k]);
      store(dx + place[half], values);
    }
  }

  if (parts == nullptr) return;
  float(&flat)[kSums] = reinterpret_cast<float(&)[kSums]>(sums);
#pragma unroll
  for (int other = 1; other < kTurns; ++other) {
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
  float* const part = parts + int64_t{blockIdx.y} * products.ranks * in;
#pragma unroll
  for (int n = 0; n < kAdapters; ++n) {
    if (n >= products.num_adapters) break;
    const Drawn::Adapter& adapter = products.adapters[n];
#pragma unroll
    for (int tile = 0; tile < kRankTiles; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int rank = 16 * tile + 8 * half + g;
        if (rank >= adapter.rank) continue;
#pragma unroll
        for (int j = 0; j < 4; ++j)
          *reinterpret_cast<float2*>(part + (adapter.first_rank + rank) * in + first_feature + 8 * j + 2 * t) =
              make_float2(sums[n][tile][j][2 * half] * adapter.scale, sums[n][tile][j][2 * half + 1] * adapter.scale);
      }
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

// Calls body(drawn, adapters, tiles) for up to kAdapters adapters at a time, with the template arguments of a kernel.
template <int kAdapters, int kTiles, typename Body>
void launch_some(const DroppedProducts& products, Body body) {
  for (int first = 0; first < products.num_adapters; first += kAdapters)
    body(drawn_of(products, first, kAdapters), std::integral_constant<int, kAdapters>{},
         std::integral_constant<int, kTiles>{});
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

unsigned blocks_of(int64_t size, int64_t block) {
  return static_cast<unsigned>((size + block - 1) / block);
}

}  // namespace

bool has_dropped_products(const DroppedProducts& products, FloatType type) {
  if (type == FloatType::kFloat || products.in == 0 || products.in % kStep != 0 || products.tokens == 0) return false;
  for (int i = 0; i < products.num_adapters; ++i)
    if (products.adapters[i].rank % 8 != 0 || products.adapters[i].rank > kMostRank) return false;
  return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) >= kMostSharedBytes &&
         device_attribute(cudaDevAttrComputeCapabilityMajor) >= 8;
}

void multiply_dropped(const DroppedProducts& products, const void* x, const void* a, void* low, FloatType type,
                      Stream stream) {
  visit_narrow(type, [&](auto element) {
    using T = decltype(element);
    const auto launch = [&](const Drawn& some, auto adapters, auto tiles) {
      constexpr int kTokenTiles = adapters() * tiles() <= 6 ? 2 : 1;
      multiply<T, adapters(), tiles(), kTokenTiles>
          <<<blocks_of(products.tokens, kTileTokens * kTokenTiles), kThreads, 0, stream_of(stream)>>>(
              some, static_cast<const T*>(x), static_cast<const T*>(a), static_cast<T*>(low));
    };
    const int rank = largest_rank(products);
    const bool is_one = products.num_adapters == 1;
    if (rank <= 8)
      launch_some<4, 1>(products, launch);
    else if (rank <= 16)
      is_one ? launch_some<1, 2>(products, launch) : launch_some<3, 2>(products, launch);
    else if (rank <= 32)
      is_one ? launch_some<1, 4>(products, launch) : launch_some<2, 4>(products, launch);
    else if (rank <= 64)
      launch_some<1, 8>(products, launch);
    else
      launch_some<1, 16>(products, launch);
  });
  check_launch("multiply_dropped");
}

int64_t multiply_dropped_backward_num_parts(const DroppedProducts& products) {
  constexpr int64_t kLeastTokens = kTurns * kTileTokens;  // of a part
  const int64_t blocks = blocks_of(products.in, kSlab), wanted = 4 * device_attribute(cudaDevAttrMultiProcessorCount);
  return std::clamp<int64_t>((wanted + blocks - 1) / blocks, 1, blocks_of(products.tokens, kLeastTokens));
}

void multiply_dropped_backward(const DroppedProducts& products, const DroppedGradients& gradients, FloatType type,
                               Stream stream) {
  const int64_t num_parts = multiply_dropped_backward_num_parts(products), size = int64_t{products.ranks} * products.in;
  const int64_t tokens_of_part = (products.tokens + num_parts - 1) / num_parts;
  float* const to = num_parts == 1 ? gradients.da : gradients.parts;
  visit_narrow(type, [&](auto element) {
    using T = decltype(element);
    const auto launch = [&](const Drawn& some, auto adapters, auto tiles) {
      constexpr auto kKernel = multiply_back<T, adapters(), tiles()>;
      constexpr int kSharedBytes = static_cast<int>(sizeof(BackShared<T, adapters() * tiles()>));
      static_assert(kSharedBytes <= kMostSharedBytes);
      static const bool is_allowed =
          cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes) == cudaSuccess;
      if (!is_allowed) fail(ErrorKind::kDevice, "no shared memory for multiply_dropped_backward");
      const dim3 grid(blocks_of(products.in, kSlab), static_cast<unsigned>(num_parts));
      kKernel<<<grid, kThreads, kSharedBytes, stream_of(stream)>>>(
          some, static_cast<const T*>(gradients.d_low), static_cast<const T*>(gradients.x),
          static_cast<const T*>(gradients.a), static_cast<T*>(gradients.dx), gradients.da == nullptr ? nullptr : to,
          tokens_of_part);
    };
    const int rank = largest_rank(products);
    const bool is_one = products.num_adapters == 1;
    if (rank <= 16)
      is_one ? launch_some<1, 1>(products, launch) : launch_some<3, 1>(products, launch);
    else if (rank <= 32)
      is_one ? launch_some<1, 2>(products, launch) : launch_some<2, 2>(products, launch);
    else if (rank <= 64)
      launch_some<1, 4>(products, launch);
    else
      launch_some<1, 8>(products, launch);
  });
  if (gradients.da != nullptr && num_parts > 1)
    add_up<<<blocks_of(size, kThreads), kThreads, 0, stream_of(stream)>>>(gradients.parts, gradients.da, size,
                                                                          static_cast<int>(num_parts));
  check_launch("multiply_dropped_backward");
}

}  // namespace dsft::kernels::cuda

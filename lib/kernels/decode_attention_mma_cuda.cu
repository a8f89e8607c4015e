// Attention of a decoding step in 16 bits, by the tensor cores' products of 16 x 16 by 16 x 8.
#include "kernels/decode_attention_cuda.cuh"
#include "kernels/dependent_launch.cuh"
#include "kernels/rotate_head.cuh"
#include "kernels/tensor_core.cuh"

namespace dsft::kernels::cuda {
namespace {

constexpr int kWarps = kDecodeThreads / kWarp;
constexpr int kTile = 16;  // tokens that a warp takes at once
constexpr int kHeads = 8;  // columns of a product, some of them unused
constexpr int kTilesPerPage = kDecodePageTokens / kTile;
static_assert(kTilesPerPage >= kWarps, "the first tile of each warp is in the first page");

// Two numbers of 16 bits in a word, the first one low.
__device__ inline uint32_t pack(float first, float second, __nv_bfloat16) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline uint32_t pack(float first, float second, __half) {
  const __half2 pair = __floats2half2_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// What one lane holds of a tile. The order in which a product sums over features is free, so each lane takes
// neighbouring ones, by 16-byte accesses: of keys 8 in each 32 for two tokens, of values 8 in each 64 for four tokens.
template <typename T, int kHeadDim>
struct TileRows {
  static constexpr int kSteps = kHeadDim / 16;  // products for a tile's scores, and for its weighted values
  Words keys[2][kHeadDim / 32];
  Words values[4][kHeadDim / 64];

  // lane 4 g + t is called (g, t)
  __device__ static int g() { return threadIdx.x % kWarp / 4; }
  __device__ static int t() { return threadIdx.x % 4; }
  __device__ static int key_token(int n) { return 8 * n + g(); }
  __device__ static int value_token(int c) { return 2 * t() + c % 2 + c / 2 * 8; }
  __device__ static int key_column(int j) { return 32 * j + 8 * t(); }
  __device__ static int value_column(int h) { return 64 * h + 8 * g(); }
  /// The feature that a lane's number `index` of a value is, index < kHeadDim / 8.
  __device__ static int value_feature(int index) { return value_column(index / 8) + index % 8; }

  __device__ void load_keys(const T* tile) {
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int j = 0; j < kHeadDim / 32; ++j) keys[n][j] = load_words(tile + key_token(n) * kHeadDim + key_column(j));
  }
  __device__ void load_values(const T* tile) {
#pragma unroll
    for (int c = 0; c < 4; ++c)
#pragma unroll
      for (int h = 0; h < kHeadDim / 64; ++h)
        values[c][h] = load_words(tile + value_token(c) * kHeadDim + value_column(h));
  }
  /// The last tile: its token `last` is new, and those behind it do not exist. Their scores are masked; of their
  /// values weight 0 would still make a NaN of what stands there.
  __device__ void finish(int last, const T* new_key, const T* new_value) {
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int j = 0; j < kHeadDim / 32; ++j)
        if (key_token(n) == last) keys[n][j] = load_words(new_key + key_column(j));
#pragma unroll
    for (int c = 0; c < 4; ++c)
#pragma unroll
      for (int h = 0; h < kHeadDim / 64; ++h) {
        if (value_token(c) == last) values[c][h] = load_words(new_value + value_column(h));
        if (value_token(c) > last) values[c][h] = {};
      }
  }
  /// Scores of head g() and tokens 2 t(), 2 t() + 1 of each half of the tile, of queries [kHeads, kHeadDim].
  __device__ void score(const T* queries, float (&scores)[4]) const {
    float sums[2][4] = {};
#pragma unroll
    for (int j = 0; j < kHeadDim / 32; ++j) {
      const Words query = load_words(queries + g() * kHeadDim + key_column(j));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t a[4] = {query.words[2 * half], 0, query.words[2 * half + 1], 0};
#pragma unroll
        for (int n = 0; n < 2; ++n)
          multiply_add(sums[n], a, keys[n][j].words[2 * half], keys[n][j].words[2 * half + 1], T{});
      }
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) scores[2 * n] = sums[n][0], scores[2 * n + 1] = sums[n][1];
  }
  /// sums[s]: of features value_feature(s) and value_feature(s + kSteps), each for heads 2 t() and 2 t() + 1.
  __device__ void add_values(const float (&weights)[4], float (&sums)[kSteps][4]) const {
    const uint32_t b0 = pack(weights[0], weights[1], T{}), b1 = pack(weights[2], weights[3], T{});
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const uint32_t a[4] = {of_tokens(0, s), of_tokens(0, s + kSteps), of_tokens(2, s), of_tokens(2, s + kSteps)};
      multiply_add(sums[s], a, b0, b1, T{});
    }
  }

 private:
  // Number `index` of the values of tokens c and c + 1.
  __device__ uint32_t of_tokens(int c, int index) const {
    const int word = index % 8 / 2;
    return __byte_perm(values[c][index / 8].words[word], values[c + 1][index / 8].words[word],
                       index % 2 == 0 ? 0x5410 : 0x7632);
  }
};

// What a block reads of the new token: its query heads and its key, with what they are normalised and turned by. Warp
// w has heads w - 1, w + 3 and w + 7, of which -1 is the key's.
template <typename T, int kHeadDim>
struct NewToken {
  static constexpr int kRounds = kHeads / kWarps + 1;
  using QueryOrKey = Head<T, kHeadDim / 2 / kWarp>;
  typename QueryOrKey::Packed heads[kRounds], first_weight, query_weight;  // of the first round, and of the others
  typename QueryOrKey::Angles angles;

  __device__ static int head_of(int round) { return round * kWarps + static_cast<int>(threadIdx.x) / kWarp - 1; }

  // Without branches and conversions, so that all of it is under way at once.
  __device__ void read(const DecodeTensors& tensors, int group) {
    const int64_t sequence = blockIdx.x, kv_head = blockIdx.y;
    const T* key = static_cast<const T*>(tensors.k) + sequence * tensors.k_stride + kv_head * kHeadDim;
    const T* queries = static_cast<const T*>(tensors.q) + sequence * tensors.q_stride + kv_head * group * kHeadDim;
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      const int h = head_of(round);
      heads[round].read(h < 0 ? key : queries + min(h, group - 1) * kHeadDim);
    }
    const HeadFactors& factors = tensors.factors;
    if (factors.q_weight != nullptr) {
      first_weight.read(static_cast<const T*>(head_of(0) < 0 ? factors.k_weight : factors.q_weight));
      query_weight.read(static_cast<const T*>(factors.q_weight));
    }
    if (factors.cos != nullptr)
      angles.read(factors.cos + sequence * (kHeadDim / 2), factors.sin + sequence * (kHeadDim / 2));
  }
  /// Queries beyond the group are zero.
  __device__ void write(const HeadFactors& factors, int group, T* queries, T* new_key) const {
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      const int h = head_of(round);
      if (h >= kHeads) break;
      QueryOrKey head = {}, weight;
      if (h < group) {
        head.take(heads[round]);
        weight.take(round == 0 ? first_weight : query_weight);
        if (factors.q_weight != nullptr) head.normalise(weight, factors.eps);
        if (factors.cos != nullptr) head.rotate(angles, 1.0f);
      }
      head.write(h < 0 ? new_key : queries + h * kHeadDim);
    }
  }
};

// A block serves the query heads of one kv head of one part of a sequence; its warps take the tiles in turn, the next
// one's memory under way while they compute. Blocks start together, so what waits for memory at the start waits for
// nothing else: the page of the first tile is known before the length. Lengths, pages and the tokens of earlier steps
// are constants in a step (dependent_launch.cuh): they were written before its first kernel, the lookup of embeddings,
// which is launched in the ordinary way. Only the new token is waited for.
template <typename T, int kHeadDim>
__global__ void __launch_bounds__(kDecodeThreads, 4)
    attend_by_mma(DecodeTensors tensors, cpu::DecodeAttentionShape shape) {
  using Rows = TileRows<T, kHeadDim>;
  constexpr int kSteps = Rows::kSteps;
  __shared__ alignas(16) T queries[kHeads * kHeadDim], new_key[kHeadDim];
  __shared__ float maxima[kWarps][kHeads], sums[kWarps][kHeads];
  __shared__ float weighted[kWarps][kHeads][kHeadDim + 1];  // + 1: few lanes of a warp meet in a bank
  const int64_t sequence = blockIdx.x, kv_head = blockIdx.y;
  const int split = static_cast<int>(blockIdx.z), num_splits = static_cast<int>(tensors.num_splits);
  const int group = static_cast<int>(shape.group_size), warp = threadIdx.x / kWarp;
  const int length = static_cast<int>(tensors.lengths[sequence]);
  const int32_t* pages = tensors.pages + sequence * shape.pages_per_sequence;
  const int first_page = pages[0];
  const int num_tiles = (length + kTile - 1) / kTile;
  const int first = shape.window > 0 && shape.window < length ? length - static_cast<int>(shape.window) : 0;
  const bool begins_at_zero = num_splits == 1 && shape.window == 0;
  int begin = 0, end = num_tiles;
  if (!begins_at_zero) {
    const int per_split = (num_tiles - first / kTile + num_splits - 1) / num_splits;
    begin = first / kTile + split * per_split;
    end = min(num_tiles, begin + per_split);
  }
  T *k_cache = static_cast<T*>(tensors.k_cache), *v_cache = static_cast<T*>(tensors.v_cache);
  const auto place_of = [&](int page, int tile) {
    return ((page * shape.num_kv_heads + kv_head) * kTilesPerPage + tile % kTilesPerPage) * (kTile * kHeadDim);
  };
  Rows rows;
  int tile = begin + warp;
  if (begins_at_zero || tile < end) {
    const int64_t place = place_of(begins_at_zero ? first_page : pages[tile / kTilesPerPage], tile);
    rows.load_keys(k_cache + place);
    rows.load_values(v_cache + place);
  }
  let_next_kernel_start();
  wait_for_earlier_kernels();
  NewToken<T, kHeadDim> token;
  token.read(tensors, group);
  const T* new_value = static_cast<const T*>(tensors.v) + sequence * tensors.v_stride + kv_head * kHeadDim;
  token.write(tensors.factors, group, queries, new_key);
  __syncthreads();
  const float scale = shape.scale * kLog2e;
  float maximum = -INFINITY, sum = 0, values[kSteps][4] = {};  // of head g(), as Running in the other kernel
  for (; tile < end; tile += kWarps) {
    const int next = tile + kWarps;
    const int64_t next_place = next < end ? place_of(pages[next / kTilesPerPage], next) : 0;
    if (tile == num_tiles - 1) rows.finish(length - 1 - tile * kTile, new_key, new_value);
    float scores[4];
    rows.score(queries, scores);
    if (next < end) rows.load_keys(k_cache + next_place);
    float largest = maximum;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = tile * kTile + i / 2 * 8 + 2 * Rows::t() + i % 2;
      scores[i] = token >= first && token < length ? scores[i] * scale : -INFINITY;
      largest = fmaxf(largest, scores[i]);
    }
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 2));
    const float factor = exp2f(maximum - largest);  // every tile has a token that is seen, so `largest` is finite
    maximum = largest;
    sum *= factor;
    float weights[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) sum += weights[i] = exp2f(scores[i] - largest);
    if (__any_sync(0xffffffff, factor != 1.0f)) {
      const float first_factor = __shfl_sync(0xffffffff, factor, 8 * Rows::t()),
                  second_factor = __shfl_sync(0xffffffff, factor, 8 * Rows::t() + 4);
#pragma unroll
      for (int s = 0; s < kSteps; ++s)
#pragma unroll
        for (int i = 0; i < 4; ++i) values[s][i] *= i % 2 == 0 ? first_factor : second_factor;
    }
    rows.add_values(weights, values);
    if (next < end) rows.load_values(v_cache + next_place);
  }
  // the block that has the new token writes it to the cache; what that waits for is under way by now
  const bool writes_token = begin < end && end == num_tiles && warp == kWarps - 1;
  typename NewToken<T, kHeadDim>::QueryOrKey::Packed value;
  int last_page = 0;
  if (writes_token) {
    value.read(new_value);
    last_page = pages[(length - 1) / kDecodePageTokens];
  }
  sum += __shfl_xor_sync(0xffffffff, sum, 1);
  sum += __shfl_xor_sync(0xffffffff, sum, 2);
  if (Rows::t() == 0) maxima[warp][Rows::g()] = maximum, sums[warp][Rows::g()] = sum;
#pragma unroll
  for (int s = 0; s < kSteps; ++s)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      weighted[warp][2 * Rows::t() + i % 2][Rows::value_feature(s + i / 2 * kSteps)] = values[s][i];
  __syncthreads();
  for (int place = threadIdx.x; place < group * kHeadDim; place += kDecodeThreads) {
    const int head = place / kHeadDim, feature = place % kHeadDim;
    SoftmaxPart part;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) part.maximum = fmaxf(part.maximum, maxima[w][head]);
#pragma unroll
    for (int w = 0; w < kWarps; ++w)
      part.add(share(maxima[w][head], part.maximum), sums[w][head], weighted[w][head][feature]);
    write_part<T>(tensors, shape, (sequence * shape.num_kv_heads + kv_head) * group + head, kHeadDim, feature, part);
  }
  if (writes_token) {
    const int64_t place = place_of(last_page, (length - 1) / kTile) + (length - 1) % kTile * kHeadDim;
    typename NewToken<T, kHeadDim>::QueryOrKey::Packed key;
    key.read(new_key);
    key.write(k_cache + place);
    value.write(v_cache + place);
  }
}

}  // namespace

void decode_attention_by_mma(const DecodeTensors& tensors, const cpu::DecodeAttentionShape& shape, FloatType type,
                             cudaStream_t stream) {
  const auto run = [&](auto element) {
    using T = decltype(element);
    const LaunchShape launch{.grid = decode_grid(tensors, shape), .threads = kDecodeThreads};
    if (shape.head_dim == 64)
      launch_early<attend_by_mma<T, 64>>(launch, stream, tensors, shape);
    else
      launch_early<attend_by_mma<T, 128>>(launch, stream, tensors, shape);
  };
  if (type == FloatType::kHalf)
    run(__half{});
  else
    run(__nv_bfloat16{});
}

}  // namespace dsft::kernels::cuda

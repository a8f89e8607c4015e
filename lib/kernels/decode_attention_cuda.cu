#include <algorithm>

#include "kernels/decode_attention_cuda.cuh"
#include "kernels/dependent_launch.cuh"

namespace dsft::kernels::cuda {
namespace {

constexpr int kBlocksPerMultiprocessor = 4;  // that are wanted at least
constexpr int kMostGroup = 8;
constexpr int kMostSplits = 32;

// One query head's softmax over the keys seen so far: running maximum (of scores in units of log 2), sum, and the
// weighted values of this lane's features (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018).
template <int kSize>
struct Running {
  float maximum = -INFINITY, sum = 0, values[kSize] = {};

  /// Takes kTokens scores at once, -inf for those that do not exist.
  template <int kTokens>
  __device__ void add(const float (&scores)[kTokens], const float (&value)[kTokens][kSize]) {
    float largest = maximum;
#pragma unroll
    for (int t = 0; t < kTokens; ++t) largest = fmaxf(largest, scores[t]);
    if (largest == -INFINITY) return;
    const float factor = exp2f(maximum - largest);
    maximum = largest;
    sum *= factor;
#pragma unroll
    for (int i = 0; i < kSize; ++i) values[i] *= factor;
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const float weight = exp2f(scores[t] - largest);
      sum += weight;
#pragma unroll
      for (int i = 0; i < kSize; ++i) values[i] += weight * value[t][i];
    }
  }
};

// Tokens that a group of lanes has under way at once, so that it does not wait for each one's memory.
constexpr int tokens_under_way(int group) {
  return group <= 4 ? 4 : 2;
}

// A block serves the query heads of one kv head of one part of a sequence. kLanes lanes hold one token by 16-byte
// accesses; the groups of lanes take the tokens in turn.
template <typename T, int kHeadDim, int kGroup>
__global__ void __launch_bounds__(kDecodeThreads) attend(DecodeTensors tensors, cpu::DecodeAttentionShape shape) {
  constexpr int kSize = Vector<T>::kSize, kLanes = kHeadDim / kSize, kRunners = kDecodeThreads / kLanes;
  constexpr int kTokens = tokens_under_way(kGroup);
  const int64_t sequence = blockIdx.x, kv_head = blockIdx.y, split = blockIdx.z;
  const int length = static_cast<int>(tensors.lengths[sequence]);
  const int runner = threadIdx.x / kLanes, column = threadIdx.x % kLanes * kSize;
  const int32_t* pages = tensors.pages + sequence * shape.pages_per_sequence;
  const int64_t item = sequence * shape.num_kv_heads + kv_head;
  const auto place_of = [&](int token) {
    const int64_t page = pages[token / kDecodePageTokens];
    return ((page * shape.num_kv_heads + kv_head) * kDecodePageTokens + token % kDecodePageTokens) * kHeadDim + column;
  };
  T *k_cache = static_cast<T*>(tensors.k_cache), *v_cache = static_cast<T*>(tensors.v_cache);
  const int first = shape.window > 0 && shape.window < length ? length - static_cast<int>(shape.window) : 0;
  const int num_splits = static_cast<int>(tensors.num_splits);
  const int per_split = (length - first + num_splits - 1) / num_splits;
  const int begin = first + static_cast<int>(split) * per_split, end = min(length, begin + per_split);
  if (end == length && begin < end) {  // the new token's part
    if (runner == 0) {
      store(k_cache + place_of(length - 1),
            load(static_cast<const T*>(tensors.k) + sequence * tensors.k_stride + kv_head * kHeadDim + column));
      store(v_cache + place_of(length - 1),
            load(static_cast<const T*>(tensors.v) + sequence * tensors.v_stride + kv_head * kHeadDim + column));
    }
    __syncthreads();
  }
  const float scale = shape.scale * kLog2e;
  float query[kGroup][kSize];
#pragma unroll
  for (int g = 0; g < kGroup; ++g) {
    const Vector<T> vector = load(static_cast<const T*>(tensors.q) + sequence * tensors.q_stride +
                                  (kv_head * kGroup + g) * kHeadDim + column);
#pragma unroll
    for (int i = 0; i < kSize; ++i) query[g][i] = to_float(vector.values[i]) * scale;
  }
  Running<kSize> running[kGroup];
  // all lanes of a warp make the same number of rounds, for the sums over lanes
  for (int start = begin; start < end; start += kRunners * kTokens) {
    Vector<T> keys[kTokens], packed[kTokens];
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const int token = start + t * kRunners + runner;
      const int64_t place = place_of(token < end ? token : begin);
      keys[t] = load(k_cache + place);
      packed[t] = load(v_cache + place);
    }
    float scores[kGroup][kTokens], values[kTokens][kSize];
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const bool is_read = start + t * kRunners + runner < end;
#pragma unroll
      for (int i = 0; i < kSize; ++i) values[t][i] = to_float(keys[t].values[i]);
#pragma unroll
      for (int g = 0; g < kGroup; ++g) {
        float score = 0;
#pragma unroll
        for (int i = 0; i < kSize; ++i) score += query[g][i] * values[t][i];
#pragma unroll
        for (int offset = kLanes / 2; offset > 0; offset /= 2) score += __shfl_xor_sync(0xffffffff, score, offset);
        scores[g][t] = is_read ? score : -INFINITY;
      }
#pragma unroll
      for (int i = 0; i < kSize; ++i) values[t][i] = to_float(packed[t].values[i]);
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g) running[g].add(scores[g], values);
  }
  __shared__ float maxima[kRunners], sums[kRunners], weighted[kRunners][kHeadDim];
#pragma unroll
  for (int g = 0; g < kGroup; ++g) {
    __syncthreads();
    if (column == 0) maxima[runner] = running[g].maximum, sums[runner] = running[g].sum;
#pragma unroll
    for (int i = 0; i < kSize; ++i) weighted[runner][column + i] = running[g].values[i];
    __syncthreads();
    if (threadIdx.x >= kHeadDim) continue;  // never more features than threads
    SoftmaxPart part;
    for (int r = 0; r < kRunners; ++r) part.maximum = fmaxf(part.maximum, maxima[r]);
    for (int r = 0; r < kRunners; ++r) part.add(share(maxima[r], part.maximum), sums[r], weighted[r][threadIdx.x]);
    write_part<T>(tensors, shape, item * kGroup + g, kHeadDim, threadIdx.x, part);
  }
}

// Puts the parts of each head together; one block a head.
template <typename T>
__global__ void merge(const float* parts, T* out, int64_t heads, int head_dim, int num_splits) {
  const int64_t head = blockIdx.x;
  const int feature = threadIdx.x;
  let_next_kernel_start();
  wait_for_earlier_kernels();
  const auto part_of = [&](int split) { return parts + (split * heads + head) * (head_dim + 2); };
  SoftmaxPart whole;
  for (int s = 0; s < num_splits; ++s) whole.maximum = fmaxf(whole.maximum, part_of(s)[head_dim]);
  for (int s = 0; s < num_splits; ++s) {
    const float* part = part_of(s);
    whole.add(share(part[head_dim], whole.maximum), part[head_dim + 1], part[feature]);
  }
  out[head * head_dim + feature] = from_float<T>(whole.value / whole.sum);
}

// A thread moves 16 bytes.
template <typename T>
__global__ void __launch_bounds__(kDecodeThreads) append(AppendedRows rows) {
  const int64_t width = rows.kv_heads * rows.head_dim;
  const int64_t first = (int64_t{blockIdx.x} * kDecodeThreads + threadIdx.x) * Vector<T>::kSize;
  if (first >= rows.tokens * width) return;
  const int64_t token = first / width, head = first % width / rows.head_dim, column = first % rows.head_dim;
  const int64_t place = (rows.pages[token] * rows.kv_heads + head) * kDecodePageTokens + rows.offsets[token];
  store(static_cast<T*>(rows.cache) + place * rows.head_dim + column,
        load(static_cast<const T*>(rows.rows) + token * rows.row_stride + first % width));
}

template <int kHeadDim>
void attend_in_float(const DecodeTensors& tensors, const cpu::DecodeAttentionShape& shape, cudaStream_t stream) {
  const auto run = [&](auto group) {
    attend<float, kHeadDim, group()><<<decode_grid(tensors, shape), kDecodeThreads, 0, stream>>>(tensors, shape);
  };
  switch (shape.group_size) {
    case 1:
      return run(std::integral_constant<int, 1>{});
    case 2:
      return run(std::integral_constant<int, 2>{});
    case 3:
      return run(std::integral_constant<int, 3>{});
    case 4:
      return run(std::integral_constant<int, 4>{});
    case 5:
      return run(std::integral_constant<int, 5>{});
    case 6:
      return run(std::integral_constant<int, 6>{});
    case 7:
      return run(std::integral_constant<int, 7>{});
    default:
      return run(std::integral_constant<int, kMostGroup>{});
  }
}

}  // namespace

bool has_decode_attention(const cpu::DecodeAttentionShape& shape) {
  return (shape.head_dim == 64 || shape.head_dim == 128) && shape.page_tokens == kDecodePageTokens &&
         shape.group_size >= 1 && shape.group_size <= kMostGroup && shape.num_kv_heads <= 65535;
}

int64_t decode_attention_splits(const cpu::DecodeAttentionShape& shape) {
  const int multiprocessors = device_attribute(cudaDevAttrMultiProcessorCount);
  const int64_t blocks = std::max<int64_t>(1, shape.num_sequences * shape.num_kv_heads);
  const int64_t wanted = kBlocksPerMultiprocessor * multiprocessors / blocks;
  return std::max<int64_t>(1, std::min({wanted, shape.pages_per_sequence, int64_t{kMostSplits}}));
}

void decode_attention(const DecodeTensors& tensors, const cpu::DecodeAttentionShape& shape, FloatType type,
                      Stream stream) {
  if (shape.num_sequences == 0) return;
  if (type != FloatType::kFloat) {
    decode_attention_by_mma(tensors, shape, type, stream_of(stream));
  } else {
    DSFT_CHECK(tensors.factors.cos == nullptr, "the fp32 kernel of decode attention turns no heads");
    if (shape.head_dim == 64)
      attend_in_float<64>(tensors, shape, stream_of(stream));
    else
      attend_in_float<128>(tensors, shape, stream_of(stream));
  }
  if (tensors.num_splits > 1) {
    visit(type, [&](auto element) {
      using T = decltype(element);
      const int64_t heads = shape.num_sequences * shape.num_kv_heads * shape.group_size;
      launch_early<merge<T>>(
          {.grid = dim3(static_cast<unsigned>(heads)), .threads = static_cast<unsigned>(shape.head_dim)},
          stream_of(stream), static_cast<const float*>(tensors.parts), static_cast<T*>(tensors.out), heads,
          static_cast<int>(shape.head_dim), static_cast<int>(tensors.num_splits));
    });
  }
  check_launch("decode_attention");
}

void append_rows(const AppendedRows& appended, FloatType type, Stream stream) {
  if (appended.tokens == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    const int64_t vectors = appended.tokens * appended.kv_heads * appended.head_dim / Vector<T>::kSize;
    append<T><<<(vectors + kDecodeThreads - 1) / kDecodeThreads, kDecodeThreads, 0, stream_of(stream)>>>(appended);
  });
  check_launch("append_rows");
}

}  // namespace dsft::kernels::cuda

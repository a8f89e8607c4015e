#include "kernels/cuda_common.cuh"
#include "kernels/decode_attention_cuda.h"

namespace dsft::kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kMostGroup = 8;
constexpr float kLog2e = 1.44269504f;

// One query head's softmax over the keys that a warp has seen: running maximum, sum, and the weighted values of this
// lane's features (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018).
template <int kFeatures>
struct Running {
  float maximum = -INFINITY, sum = 0, values[kFeatures] = {};

  __device__ void add(float score, const float (&value)[kFeatures]) {
    if (score > maximum) {
      const float factor = exp2f((maximum - score) * kLog2e);
      maximum = score;
      sum *= factor;
#pragma unroll
      for (int i = 0; i < kFeatures; ++i) values[i] *= factor;
    }
    const float weight = exp2f((score - maximum) * kLog2e);
    sum += weight;
#pragma unroll
    for (int i = 0; i < kFeatures; ++i) values[i] += weight * value[i];
  }
};

// A block serves the query heads of one kv head of one sequence; its warps take the keys in turn.
template <typename T, int kFeatures, int kGroup>
__global__ void __launch_bounds__(kWarps* kWarp)
    attend(const T* q, const T* k, const T* v, T* k_cache, T* v_cache, const int64_t* slots, const int64_t* lengths,
           T* out, DecodeShape shape) {
  constexpr int kHeadDim = kFeatures * kWarp;
  struct alignas(sizeof(T) * kFeatures) Piece {
    T values[kFeatures];
  };
  const int64_t sequence = blockIdx.x, kv_head = blockIdx.y, length = lengths[sequence];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t base = (slots[sequence] * shape.kv_heads + kv_head) * shape.capacity * kHeadDim + lane * kFeatures;
  const int64_t row = (sequence * shape.kv_heads + kv_head) * kHeadDim + lane * kFeatures;
  const auto piece_at = [](const T* place) { return *reinterpret_cast<const Piece*>(place); };
  if (warp == 0) {
    *reinterpret_cast<Piece*>(k_cache + base + (length - 1) * kHeadDim) = piece_at(k + row);
    *reinterpret_cast<Piece*>(v_cache + base + (length - 1) * kHeadDim) = piece_at(v + row);
  }
  __syncthreads();
  float query[kGroup][kFeatures];
#pragma unroll
  for (int g = 0; g < kGroup; ++g) {
    const Piece piece =
        piece_at(q + ((sequence * shape.kv_heads + kv_head) * kGroup + g) * kHeadDim + lane * kFeatures);
#pragma unroll
    for (int i = 0; i < kFeatures; ++i) query[g][i] = to_float(piece.values[i]) * shape.scale;
  }
  Running<kFeatures> running[kGroup];
  const int64_t first = shape.window > 0 && shape.window < length ? length - shape.window : 0;
  for (int64_t token = first + warp; token < length; token += kWarps) {
    const Piece key = piece_at(k_cache + base + token * kHeadDim), value = piece_at(v_cache + base + token * kHeadDim);
    float values[kFeatures];
#pragma unroll
    for (int i = 0; i < kFeatures; ++i) values[i] = to_float(value.values[i]);
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      float score = 0;
#pragma unroll
      for (int i = 0; i < kFeatures; ++i) score += query[g][i] * to_float(key.values[i]);
      running[g].add(warp_sum(score), values);
    }
  }
  __shared__ float maxima[kWarps], sums[kWarps], weighted[kWarps][kHeadDim];
#pragma unroll
  for (int g = 0; g < kGroup; ++g) {
    __syncthreads();
    if (lane == 0) maxima[warp] = running[g].maximum, sums[warp] = running[g].sum;
#pragma unroll
    for (int i = 0; i < kFeatures; ++i) weighted[warp][lane * kFeatures + i] = running[g].values[i];
    __syncthreads();
    float largest = -INFINITY;
    for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, maxima[w]);
    for (int feature = threadIdx.x; feature < kHeadDim; feature += kWarps * kWarp) {
      float sum = 0, value = 0;
      for (int w = 0; w < kWarps; ++w) {
        const float factor = exp2f((maxima[w] - largest) * kLog2e);
        sum += factor * sums[w];
        value += factor * weighted[w][feature];
      }
      out[((sequence * shape.kv_heads + kv_head) * kGroup + g) * kHeadDim + feature] = from_float<T>(value / sum);
    }
  }
}

template <typename T, int kFeatures>
void launch(const void* q, const void* k, const void* v, void* k_cache, void* v_cache, const int64_t* slots,
            const int64_t* lengths, void* out, const DecodeShape& shape, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(shape.sequences), static_cast<unsigned>(shape.kv_heads));
  const auto run = [&](auto group) {
    attend<T, kFeatures, group()><<<grid, kWarps * kWarp, 0, stream>>>(
        static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v), static_cast<T*>(k_cache),
        static_cast<T*>(v_cache), slots, lengths, static_cast<T*>(out), shape);
  };
  switch (shape.group) {
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

bool has_decode_attention(const DecodeShape& shape) {
  return (shape.head_dim == 64 || shape.head_dim == 128) && shape.group >= 1 && shape.group <= kMostGroup &&
         shape.kv_heads <= 65535;
}

void decode_attention(const void* q, const void* k, const void* v, void* k_cache, void* v_cache, const int64_t* slots,
                      const int64_t* lengths, void* out, const DecodeShape& shape, FloatType type, Stream stream) {
  if (shape.sequences == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    if (shape.head_dim == 64)
      launch<T, 2>(q, k, v, k_cache, v_cache, slots, lengths, out, shape, stream_of(stream));
    else
      launch<T, 4>(q, k, v, k_cache, v_cache, slots, lengths, out, shape, stream_of(stream));
  });
  check_launch("decode_attention");
}

}  // namespace dsft::kernels::cuda

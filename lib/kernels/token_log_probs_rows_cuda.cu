#include "kernels/cuda_common.cuh"
#include "kernels/token_log_probs_rows_cuda.h"

namespace dsft::kernels::cuda {
namespace {

constexpr int kThreads = 512;

// Running maximum, where it stands first, and the sum of exponentials relative to it.
struct Statistics {
  float maximum = -INFINITY;
  float sum = 0;
  int index = 0x7fffffff;

  __device__ void merge(const Statistics& other) {
    if (other.maximum == -INFINITY) return;
    const float largest = fmaxf(maximum, other.maximum);
    sum = sum * exp2f((maximum - largest) * kLog2e) + other.sum * exp2f((other.maximum - largest) * kLog2e);
    if (other.maximum > maximum || (other.maximum == maximum && other.index < index)) index = other.index;
    maximum = largest;
  }
};

__device__ inline Statistics of_block(Statistics own) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    Statistics other;
    other.maximum = __shfl_xor_sync(0xffffffff, own.maximum, offset);
    other.sum = __shfl_xor_sync(0xffffffff, own.sum, offset);
    other.index = __shfl_xor_sync(0xffffffff, own.index, offset);
    own.merge(other);
  }
  __shared__ Statistics warps[kThreads / kWarp];
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = own;
  __syncthreads();
  Statistics all = warps[0];
  for (int warp = 1; warp < kThreads / kWarp; ++warp) all.merge(warps[warp]);
  return all;
}

// One block a row: a pass for the statistics, and one that overwrites the logits.
template <typename T, int kSize, bool kMakesGradient>
__global__ void __launch_bounds__(kThreads)
    rows_of(T* logits, const int64_t* targets, float* log_probs, bool* is_argmax, const float* scales, int vocab_size) {
  struct alignas(sizeof(T) * kSize) Piece {
    T values[kSize];
  };
  T* row = logits + int64_t{blockIdx.x} * vocab_size;
  Statistics own;
  for (int first = threadIdx.x * kSize; first < vocab_size; first += kThreads * kSize) {
    const Piece piece = *reinterpret_cast<const Piece*>(row + first);
    float values[kSize], largest = -INFINITY;
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      values[k] = to_float(piece.values[k]);
      largest = fmaxf(largest, values[k]);
    }
    if (largest > own.maximum) {
      own.sum *= exp2f((own.maximum - largest) * kLog2e);
      own.maximum = largest;
#pragma unroll
      for (int k = kSize - 1; k >= 0; --k)
        if (values[k] == largest) own.index = first + k;
    }
    if (own.maximum == -INFINITY) continue;
#pragma unroll
    for (int k = 0; k < kSize; ++k) own.sum += exp2f((values[k] - own.maximum) * kLog2e);
  }
  const Statistics all = of_block(own);
  const int target = static_cast<int>(targets[blockIdx.x]);
  const float target_logit = to_float(row[target]);
  const float log_sum = all.maximum + logf(all.sum);
  if (threadIdx.x == 0) {
    log_probs[blockIdx.x] = target_logit - log_sum;
    is_argmax[blockIdx.x] = all.index == target;
  }
  if constexpr (!kMakesGradient) return;
  __syncthreads();  // every thread has read the target's logit
  const float scale = scales != nullptr ? scales[blockIdx.x] : 1.0f;
  for (int first = threadIdx.x * kSize; first < vocab_size; first += kThreads * kSize) {
    Piece piece = *reinterpret_cast<const Piece*>(row + first);
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      const float p = exp2f((to_float(piece.values[k]) - log_sum) * kLog2e);
      piece.values[k] = from_float<T>(scale * (first + k == target ? 1.0f - p : -p));
    }
    *reinterpret_cast<Piece*>(row + first) = piece;
  }
}

}  // namespace

void token_log_probs_rows(void* logits, const int64_t* targets, float* log_probs, bool* is_argmax, bool makes_gradient,
                          const float* scales, int64_t rows, int64_t vocab_size, FloatType type, Stream stream) {
  if (rows == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    const auto launch = [&](auto size, auto makes) {
      rows_of<T, size(), makes()><<<rows, kThreads, 0, stream_of(stream)>>>(
          static_cast<T*>(logits), targets, log_probs, is_argmax, scales, static_cast<int>(vocab_size));
    };
    const auto choose = [&](auto size) {
      if (makes_gradient)
        launch(size, std::true_type{});
      else
        launch(size, std::false_type{});
    };
    if (vocab_size % Vector<T>::kSize == 0)
      choose(std::integral_constant<int, Vector<T>::kSize>{});
    else
      choose(std::integral_constant<int, 1>{});
  });
  check_launch("token_log_probs_rows");
}

}  // namespace dsft::kernels::cuda

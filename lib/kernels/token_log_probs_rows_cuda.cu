#include <cooperative_groups.h>

#include <type_traits>

#include "kernels/cuda_common.cuh"
#include "kernels/dependent_launch.cuh"
#include "kernels/token_log_probs_rows_cuda.h"

namespace dsft::kernels::cuda {
namespace {

namespace groups = cooperative_groups;

constexpr int kThreads = 512;
constexpr int kMostBlocks = 8;  // of a cluster, everywhere
constexpr int kPieces = 10;     // of a row that a thread holds; with more registers a multiprocessor has one block only

// e^x for x <= 0, by the GPU's own instruction; 0 where it would be denormal.
__device__ inline float exp_of(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x * kLog2e));
  return result;
}

// Running maximum, where it stands first, and the sum of exponentials relative to it.
struct Statistics {
  float maximum = -INFINITY;
  float sum = 0;
  int index = 0x7fffffff;

  __device__ void merge(const Statistics& other) {
    if (other.maximum == -INFINITY) return;
    const float largest = fmaxf(maximum, other.maximum);
    sum = sum * exp_of(maximum - largest) + other.sum * exp_of(other.maximum - largest);
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
      own.sum *= exp_of(own.maximum - largest);
      own.maximum = largest;
#pragma unroll
      for (int k = kSize - 1; k >= 0; --k)
        if (values[k] == largest) own.index = first + k;
    }
    if (own.maximum == -INFINITY) continue;
#pragma unroll
    for (int k = 0; k < kSize; ++k) own.sum += exp_of(values[k] - own.maximum);
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
      const float p = exp_of(to_float(piece.values[k]) - log_sum);
      piece.values[k] = from_float<T>(scale * (first + k == target ? 1.0f - p : -p));
    }
    *reinterpret_cast<Piece*>(row + first) = piece;
  }
}

// Has the compiler make the elements out of a held piece again, where it would keep them in as many registers.
template <typename T>
__device__ inline void hold(Vector<T>& piece) {
#pragma unroll
  for (int word = 0; word < 4; ++word) asm volatile("" : "+r"(reinterpret_cast<uint32_t*>(piece.values)[word]));
}

// The larger of each two elements; those of 16 bits in pairs.
__device__ inline void raise(Vector<float>& largest, const Vector<float>& piece) {
#pragma unroll
  for (int k = 0; k < 4; ++k) largest.values[k] = fmaxf(largest.values[k], piece.values[k]);
}
template <typename T>
__device__ inline void raise(Vector<T>& largest, const Vector<T>& piece) {
  using Pair = std::conditional_t<std::is_same_v<T, __half>, __half2, __nv_bfloat162>;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    Pair& pair = reinterpret_cast<Pair*>(largest.values)[k];
    pair = __hmax2(pair, reinterpret_cast<const Pair*>(piece.values)[k]);
  }
}

// A cluster of blocks a row, which stays in their registers between the statistics and the gradient: the logits are
// read once. Two blocks on a multiprocessor, at different places of their work, keep memory and arithmetic busy.
template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    held_rows(T* logits, const int64_t* targets, float* log_probs, bool* is_argmax, const float* scales, int vocab_size,
              int part_size) {
#if __CUDA_ARCH__ >= 900
  wait_for_earlier_kernels();
  constexpr int kSize = Vector<T>::kSize, kStride = kThreads * kSize;
  const auto cluster = groups::this_cluster();
  T* row = logits + int64_t{blockIdx.x} * vocab_size;
  const int target = static_cast<int>(targets[blockIdx.x]);
  const float target_logit = to_float(row[target]);
  const int begin = static_cast<int>(blockIdx.y) * part_size + static_cast<int>(threadIdx.x) * kSize;
  const int end = min(vocab_size, (static_cast<int>(blockIdx.y) + 1) * part_size);
  const int count = begin < end ? (end - begin + kStride - 1) / kStride : 0;
  Vector<T> pieces[kPieces];
#pragma unroll
  for (int p = 0; p < kPieces; ++p)
    if (p < count) pieces[p] = load(row + begin + p * kStride);

  Statistics own;
  if (count > 0) {
    Vector<T> largest = pieces[0];
#pragma unroll
    for (int p = 1; p < kPieces; ++p)
      if (p < count) raise(largest, pieces[p]);
#pragma unroll
    for (int k = 0; k < kSize; ++k) own.maximum = fmaxf(own.maximum, to_float(largest.values[k]));
  }
  if (own.maximum != -INFINITY) {
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      if (p >= count) break;
      hold(pieces[p]);
#pragma unroll
      for (int k = 0; k < kSize; ++k) own.sum += exp_of(to_float(pieces[p].values[k]) - own.maximum);
    }
  }
  __shared__ Statistics of_part;
  __shared__ int has_earlier_maximum;  // of the first block: before the target stands one as large
  const Statistics block = of_block(own);
  if (threadIdx.x == 0) of_part = block, has_earlier_maximum = 0;
  cluster.sync();  // every block has read the target's logit, too
  Statistics all;
  for (unsigned part = 0; part < gridDim.y; ++part) all.merge(*cluster.map_shared_rank(&of_part, part));
  const float log_sum = all.maximum + logf(all.sum);
  const float scale = scales != nullptr ? scales[blockIdx.x] : 1.0f;
  const bool is_maximum = target_logit == all.maximum;
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    if (p >= count) break;
    const int first = begin + p * kStride;
    hold(pieces[p]);
    if (is_maximum && own.maximum == all.maximum)
      for (int k = 0; k < kSize; ++k)
        if (first + k < target && to_float(pieces[p].values[k]) == all.maximum)
          *cluster.map_shared_rank(&has_earlier_maximum, 0) = 1;
    Vector<T> gradient;
#pragma unroll
    for (int k = 0; k < kSize; ++k)
      gradient.values[k] = from_float<T>(-scale * exp_of(to_float(pieces[p].values[k]) - log_sum));
    store(row + first, gradient);
    if (first <= target && target < first + kSize)
      row[target] = from_float<T>(scale * (1.0f - exp_of(target_logit - log_sum)));
  }
  cluster.sync();  // the others have read this block's statistics
  if (cluster.block_rank() == 0 && threadIdx.x == 0) {
    log_probs[blockIdx.x] = target_logit - log_sum;
    is_argmax[blockIdx.x] = is_maximum && has_earlier_maximum == 0;
  }
#endif
}

// Blocks that hold a row between them; 0: it is not held.
template <typename T>
unsigned blocks_of_row(int64_t vocab_size) {
  constexpr int64_t kBlockSize = int64_t{kThreads} * kPieces * Vector<T>::kSize;
  const int64_t blocks = (vocab_size + kBlockSize - 1) / kBlockSize;
  const bool is_held = vocab_size % Vector<T>::kSize == 0 && blocks <= kMostBlocks && is_made_for_9_0<held_rows<T>>();
  return is_held ? static_cast<unsigned>(blocks) : 0;
}

}  // namespace

void token_log_probs_rows(void* logits, const int64_t* targets, float* log_probs, bool* is_argmax, bool makes_gradient,
                          const float* scales, int64_t rows, int64_t vocab_size, FloatType type, Stream stream) {
  if (rows == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    if (const unsigned blocks = makes_gradient ? blocks_of_row<T>(vocab_size) : 0; blocks > 0) {
      constexpr int kSize = Vector<T>::kSize;
      const int size = static_cast<int>(vocab_size), num_blocks = static_cast<int>(blocks);
      launch_early<held_rows<T>>(
          {.grid = {static_cast<unsigned>(rows), blocks}, .threads = kThreads, .cluster_height = blocks},
          stream_of(stream), static_cast<T*>(logits), targets, log_probs, is_argmax, scales, size,
          (size / kSize + num_blocks - 1) / num_blocks * kSize);
      return;
    }
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

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

// What a logit that is -inf counts as where it is multiplied by its probability, 0.
constexpr float kLeast = -1e30f;

struct NoEntropy {};
struct Entropy {
  float weighted = 0;  // the sum of exponentials times (logit - maximum)
};

// Running maximum, where it stands first, and the sum of exponentials relative to it, of logits times `inverse`; with
// kTempered, where that is not 1, also what the entropy is made of.
template <bool kTempered>
struct Statistics : std::conditional_t<kTempered, Entropy, NoEntropy> {
  float maximum = -INFINITY;
  float sum = 0;
  int index = 0x7fffffff;

  // To another maximum, not below this one's.
  __device__ void rise(float largest, float inverse) {
    const float factor = exp_of((maximum - largest) * inverse);
    if constexpr (kTempered) this->weighted = factor * (this->weighted + fmaxf(maximum - largest, kLeast) * sum);
    sum *= factor;
    maximum = largest;
  }

  __device__ void add(float logit, float inverse) {
    const float share = exp_of((logit - maximum) * inverse);
    sum += share;
    if constexpr (kTempered) this->weighted += share * fmaxf(logit - maximum, kLeast);
  }

  __device__ void merge(const Statistics& other, float inverse) {
    if (other.maximum == -INFINITY) return;
    const float largest = fmaxf(maximum, other.maximum);
    if constexpr (kTempered) {
      Statistics risen = other;
      risen.rise(largest, inverse);
      if (other.maximum > maximum || (other.maximum == maximum && other.index < index)) index = other.index;
      rise(largest, inverse);
      sum += risen.sum;
      this->weighted += risen.weighted;
      return;
    }
    sum = sum * exp_of(maximum - largest) + other.sum * exp_of(other.maximum - largest);
    if (other.maximum > maximum || (other.maximum == maximum && other.index < index)) index = other.index;
    maximum = largest;
  }
};

template <bool kTempered>
__device__ inline Statistics<kTempered> of_block(Statistics<kTempered> own, float inverse) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    Statistics<kTempered> other;
    if constexpr (kTempered) other.weighted = __shfl_xor_sync(0xffffffff, own.weighted, offset);
    other.maximum = __shfl_xor_sync(0xffffffff, own.maximum, offset);
    other.sum = __shfl_xor_sync(0xffffffff, own.sum, offset);
    other.index = __shfl_xor_sync(0xffffffff, own.index, offset);
    own.merge(other, inverse);
  }
  __shared__ Statistics<kTempered> warps[kThreads / kWarp];
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = own;
  __syncthreads();
  Statistics<kTempered> all = warps[0];
  for (int warp = 1; warp < kThreads / kWarp; ++warp) all.merge(warps[warp], inverse);
  return all;
}

// A row's results from all of its statistics, and its gradient, by logit: scale (is_target - p).
class PlainRow {
 public:
  __device__ PlainRow(const Statistics<false>& all, const TemperedSoftmax&, const float* scales)
      : log_sum_(all.maximum + logf(all.sum)), scale_(scales != nullptr ? scales[blockIdx.x] : 1.0f) {}

  __device__ float gradient(float logit) const { return -scale_ * exp_of(logit - log_sum_); }
  __device__ float target_gradient(float logit) const { return scale_ * (1.0f - exp_of(logit - log_sum_)); }
  __device__ void store(float* log_probs, float target_logit, const TemperedSoftmax&) const {
    log_probs[blockIdx.x] = target_logit - log_sum_;
  }

 private:
  float log_sum_, scale_;
};

// The same with inverse (scale (is_target - p) - entropy_scale p (ln p + entropy)).
class TemperedRow {
 public:
  __device__ TemperedRow(const Statistics<true>& all, const TemperedSoftmax& tempered, const float* scales)
      : inverse_(tempered.inverse_temperature) {
    const float log_sum = logf(all.sum);
    entropy_ = log_sum - inverse_ * all.weighted / all.sum;
    shift_ = all.maximum * inverse_ + log_sum;
    of_target_ = inverse_ * (scales != nullptr ? scales[blockIdx.x] : 1.0f);
    slope_ = inverse_ * (tempered.entropy_scales != nullptr ? tempered.entropy_scales[blockIdx.x] : 0.0f);
    offset_ = of_target_ + slope_ * entropy_;
  }

  __device__ float gradient(float logit) const {
    const float log_prob = logit * inverse_ - shift_;
    return -exp_of(log_prob) * (offset_ + slope_ * fmaxf(log_prob, kLeast));
  }
  __device__ float target_gradient(float logit) const { return of_target_ + gradient(logit); }
  __device__ void store(float* log_probs, float target_logit, const TemperedSoftmax& tempered) const {
    log_probs[blockIdx.x] = target_logit * inverse_ - shift_;
    if (tempered.entropies != nullptr) tempered.entropies[blockIdx.x] = entropy_;
  }

 private:
  float inverse_, entropy_, shift_, of_target_, slope_, offset_;
};

template <bool kTempered>
using RowOf = std::conditional_t<kTempered, TemperedRow, PlainRow>;

// One block a row: a pass for the statistics, and one that overwrites the logits.
template <typename T, int kSize, bool kMakesGradient, bool kTempered>
__global__ void __launch_bounds__(kThreads)
    rows_of(T* logits, const int64_t* targets, float* log_probs, bool* is_argmax, const float* scales,
            TemperedSoftmax tempered, int vocab_size) {
  const float inverse = kTempered ? tempered.inverse_temperature : 1.0f;
  struct alignas(sizeof(T) * kSize) Piece {
    T values[kSize];
  };
  T* row = logits + int64_t{blockIdx.x} * vocab_size;
  Statistics<kTempered> own;
  for (int first = threadIdx.x * kSize; first < vocab_size; first += kThreads * kSize) {
    const Piece piece = *reinterpret_cast<const Piece*>(row + first);
    float values[kSize], largest = -INFINITY;
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      values[k] = to_float(piece.values[k]);
      largest = fmaxf(largest, values[k]);
    }
    if (largest > own.maximum) {
      own.rise(largest, inverse);
#pragma unroll
      for (int k = kSize - 1; k >= 0; --k)
        if (values[k] == largest) own.index = first + k;
    }
    if (own.maximum == -INFINITY) continue;
#pragma unroll
    for (int k = 0; k < kSize; ++k) own.add(values[k], inverse);
  }
  const Statistics<kTempered> all = of_block(own, inverse);
  const int target = static_cast<int>(targets[blockIdx.x]);
  const float target_logit = to_float(row[target]);
  const RowOf<kTempered> result(all, tempered, scales);
  if (threadIdx.x == 0) {
    result.store(log_probs, target_logit, tempered);
    is_argmax[blockIdx.x] = all.index == target;
  }
  if constexpr (!kMakesGradient) return;
  __syncthreads();  // every thread has read the target's logit
  for (int first = threadIdx.x * kSize; first < vocab_size; first += kThreads * kSize) {
    Piece piece = *reinterpret_cast<const Piece*>(row + first);
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      const float logit = to_float(piece.values[k]);
      piece.values[k] = from_float<T>(first + k == target ? result.target_gradient(logit) : result.gradient(logit));
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
template <typename T, bool kTempered>
__global__ void __launch_bounds__(kThreads, 2)
    held_rows(T* logits, const int64_t* targets, float* log_probs, bool* is_argmax, const float* scales,
              TemperedSoftmax tempered, int vocab_size, int part_size) {
#if __CUDA_ARCH__ >= 900
  wait_for_earlier_kernels();
  constexpr int kSize = Vector<T>::kSize, kStride = kThreads * kSize;
  const float inverse = kTempered ? tempered.inverse_temperature : 1.0f;
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

  Statistics<kTempered> own;
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
      for (int k = 0; k < kSize; ++k) own.add(to_float(pieces[p].values[k]), inverse);
    }
  }
  __shared__ Statistics<kTempered> of_part;
  __shared__ int has_earlier_maximum;  // of the first block: before the target stands one as large
  const Statistics<kTempered> block = of_block(own, inverse);
  if (threadIdx.x == 0) of_part = block, has_earlier_maximum = 0;
  cluster.sync();  // every block has read the target's logit, too
  Statistics<kTempered> all;
  for (unsigned part = 0; part < gridDim.y; ++part) all.merge(*cluster.map_shared_rank(&of_part, part), inverse);
  const RowOf<kTempered> result(all, tempered, scales);
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
    for (int k = 0; k < kSize; ++k) gradient.values[k] = from_float<T>(result.gradient(to_float(pieces[p].values[k])));
    store(row + first, gradient);
    if (first <= target && target < first + kSize) row[target] = from_float<T>(result.target_gradient(target_logit));
  }
  cluster.sync();  // the others have read this block's statistics
  if (cluster.block_rank() == 0 && threadIdx.x == 0) {
    result.store(log_probs, target_logit, tempered);
    is_argmax[blockIdx.x] = is_maximum && has_earlier_maximum == 0;
  }
#endif
}

// Blocks that hold a row between them; 0: it is not held.
template <typename T, bool kTempered>
unsigned blocks_of_row(int64_t vocab_size) {
  constexpr int64_t kBlockSize = int64_t{kThreads} * kPieces * Vector<T>::kSize;
  const int64_t blocks = (vocab_size + kBlockSize - 1) / kBlockSize;
  const bool is_held =
      vocab_size % Vector<T>::kSize == 0 && blocks <= kMostBlocks && is_made_for_9_0<held_rows<T, kTempered>>();
  return is_held ? static_cast<unsigned>(blocks) : 0;
}

template <typename T, bool kTempered>
void launch_rows(T* logits, const int64_t* targets, float* log_probs, bool* is_argmax, bool makes_gradient,
                 const float* scales, const TemperedSoftmax& tempered, int64_t rows, int size, cudaStream_t stream) {
  if (const unsigned blocks = makes_gradient ? blocks_of_row<T, kTempered>(size) : 0; blocks > 0) {
    constexpr int kSize = Vector<T>::kSize;
    const int num_blocks = static_cast<int>(blocks);
    launch_early<held_rows<T, kTempered>>(
        {.grid = {static_cast<unsigned>(rows), blocks}, .threads = kThreads, .cluster_height = blocks}, stream, logits,
        targets, log_probs, is_argmax, scales, tempered, size, (size / kSize + num_blocks - 1) / num_blocks * kSize);
    return;
  }
  const auto launch = [&](auto piece, auto makes) {
    rows_of<T, piece(), makes(), kTempered>
        <<<rows, kThreads, 0, stream>>>(logits, targets, log_probs, is_argmax, scales, tempered, size);
  };
  const auto choose = [&](auto piece) {
    if (makes_gradient)
      launch(piece, std::true_type{});
    else
      launch(piece, std::false_type{});
  };
  if (size % Vector<T>::kSize == 0)
    choose(std::integral_constant<int, Vector<T>::kSize>{});
  else
    choose(std::integral_constant<int, 1>{});
}

}  // namespace

void token_log_probs_rows(void* logits, const int64_t* targets, float* log_probs, bool* is_argmax, bool makes_gradient,
                          const float* scales, const TemperedSoftmax& tempered, int64_t rows, int64_t vocab_size,
                          FloatType type, Stream stream) {
  if (rows == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    const auto launch = tempered.is_plain() ? launch_rows<T, false> : launch_rows<T, true>;
    launch(static_cast<T*>(logits), targets, log_probs, is_argmax, makes_gradient, scales, tempered, rows,
           static_cast<int>(vocab_size), stream_of(stream));
  });
  check_launch("token_log_probs_rows");
}

}  // namespace dsft::kernels::cuda

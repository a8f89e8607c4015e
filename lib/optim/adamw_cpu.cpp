#include "optim/adamw_cpu.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/vector_loops.h"
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace dsft::optim::cpu {
namespace {

constexpr int64_t kBlock = 64;    // elements: four lines of each fp32 buffer
constexpr int64_t kAhead = 1024;  // elements that are asked for before they are needed

// The processor's own prefetchers stop at every 4 KiB, and there are four streams: asking ahead gives a sixth more.
template <typename Gradient>
[[gnu::always_inline]] inline void prefetch(const float* weight, const Gradient* gradient, const float* exp_avg,
                                            const float* exp_avg_sq, int64_t i) {
  constexpr int64_t kLine = 64;
  for (int64_t line = 0; line < kBlock; line += kLine / sizeof(float)) {
    __builtin_prefetch(weight + i + line, /*rw=*/1);
    __builtin_prefetch(exp_avg + i + line, 1);
    __builtin_prefetch(exp_avg_sq + i + line, 1);
  }
  for (int64_t line = 0; line < kBlock; line += kLine / sizeof(Gradient)) __builtin_prefetch(gradient + i + line);
}

template <typename Gradient>
[[gnu::always_inline]] inline void update_block(float* __restrict weight, const Gradient* __restrict gradient,
                                                float* __restrict exp_avg, float* __restrict exp_avg_sq,
                                                const AdamWFactors& f, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float g = static_cast<float>(gradient[i]) * f.gradient_factor;
    const float m = f.beta1 * exp_avg[i] + f.one_minus_beta1 * g;
    const float v = f.beta2 * exp_avg_sq[i] + f.one_minus_beta2 * g * g;
    const float denominator = std::sqrt(v) * f.inverse_sqrt_bias_correction + f.epsilon;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    weight[i] -= f.decay * weight[i] + f.step_size * m / denominator;
  }
}

template <typename Gradient>
[[gnu::always_inline]] inline void update(float* weight, const Gradient* gradient, float* exp_avg, float* exp_avg_sq,
                                          const AdamWFactors& factors, int64_t begin, int64_t end) {
  const AdamWFactors f = factors;
  int64_t i = begin;
  for (; i + kBlock <= end; i += kBlock) {
    prefetch(weight, gradient, exp_avg, exp_avg_sq, i + kAhead);
    update_block(weight + i, gradient + i, exp_avg + i, exp_avg_sq + i, f, kBlock);
  }
  update_block(weight + i, gradient + i, exp_avg + i, exp_avg_sq + i, f, end - i);
}

// Writes past the caches what x86 has such stores for, and for the rest as usual; other processors see by themselves
// that whole lines are written.
inline void stream(void* target, const void* source, size_t num_bytes) {
#ifdef __SSE2__
  if (reinterpret_cast<uintptr_t>(target) % sizeof(__m128i) == 0) {
    auto* to = static_cast<__m128i*>(target);
    const auto* from = static_cast<const __m128i*>(source);
    const size_t count = num_bytes / sizeof(__m128i), done = count * sizeof(__m128i);
    for (size_t i = 0; i < count; ++i) _mm_stream_si128(to + i, _mm_load_si128(from + i));
    std::memcpy(to + count, from + count, num_bytes - done);
    return;
  }
#endif
  std::memcpy(target, source, num_bytes);
}

// Others may read what was streamed as soon as they hear that this thread is done.
inline void finish_streams() {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

template <typename Copy>
[[gnu::always_inline]] inline void round(const float* __restrict weight, Copy* __restrict copy, int64_t begin,
                                         int64_t end) {
  constexpr int64_t kSize = 2048;
  alignas(64) Copy rounded[kSize];
  for (int64_t first = begin; first < end; first += kSize) {
    const int64_t size = std::min(kSize, end - first);
    const float* from = weight + first;
    for (int64_t i = 0; i < size; ++i) rounded[i] = static_cast<Copy>(from[i]);
    stream(copy + first, rounded, static_cast<size_t>(size) * sizeof(Copy));
  }
  finish_streams();
}

template <typename Value>
[[gnu::always_inline]] inline double squares(const Value* values, int64_t begin, int64_t end) {
  // separate sums let the compiler use vectors without changing the order of additions
  constexpr int kNumSums = 16;
  double sums[kNumSums] = {};
  int64_t i = begin;
  for (; i + kNumSums <= end; i += kNumSums) {
    for (int lane = 0; lane < kNumSums; ++lane) {
      const double value = static_cast<float>(values[i + lane]);
      sums[lane] += value * value;
    }
  }
  double total = 0;
  for (; i < end; ++i) total += static_cast<double>(static_cast<float>(values[i])) * static_cast<float>(values[i]);
  for (double sum : sums) total += sum;
  return total;
}

}  // namespace

#define DSFT_ADAMW_OF(T)                                                                                         \
  template <>                                                                                                    \
  DSFT_VECTOR_CLONES void adamw_elements<T>(float* weight, const T* gradient, float* exp_avg, float* exp_avg_sq, \
                                            const AdamWFactors& factors, int64_t begin, int64_t end) {           \
    update(weight, gradient, exp_avg, exp_avg_sq, factors, begin, end);                                          \
  }                                                                                                              \
  template <>                                                                                                    \
  DSFT_VECTOR_CLONES void add_elements<T>(float* __restrict sum, const T* __restrict values, int64_t begin,      \
                                          int64_t end) {                                                         \
    for (int64_t i = begin; i < end; ++i) sum[i] += static_cast<float>(values[i]);                               \
  }                                                                                                              \
  template <>                                                                                                    \
  DSFT_VECTOR_CLONES double sum_of_squares<T>(const T* values, int64_t begin, int64_t end) {                     \
    return squares(values, begin, end);                                                                          \
  }
DSFT_ADAMW_OF(float)
DSFT_ADAMW_OF(c10::BFloat16)
DSFT_ADAMW_OF(c10::Half)

#define DSFT_ROUND_OF(T)                                                                                \
  template <>                                                                                           \
  DSFT_VECTOR_CLONES void round_elements<T>(const float* weight, T* copy, int64_t begin, int64_t end) { \
    round(weight, copy, begin, end);                                                                    \
  }
DSFT_ROUND_OF(c10::BFloat16)
DSFT_ROUND_OF(c10::Half)

}  // namespace dsft::optim::cpu

#include "kernels/token_log_probs_rows_cpu.h"

#include <cmath>
#include <limits>

#include "kernels/fast_exp.h"
#include "kernels/vector_loops.h"

namespace dsft::kernels::cpu {
namespace {

template <typename T>
[[gnu::always_inline]] inline float largest(const T* values, int64_t size) {
  float maximum = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : maximum)
  for (int64_t i = 0; i < size; ++i) {
    const float value = static_cast<float>(values[i]);
    maximum = value > maximum ? value : maximum;
  }
  return maximum;
}

template <typename T>
[[gnu::always_inline]] inline bool is_first_largest(const T* values, int64_t place, float maximum) {
  if (static_cast<float>(values[place]) != maximum) return false;
  for (int64_t i = 0; i < place; ++i)
    if (static_cast<float>(values[i]) == maximum) return false;
  return true;
}

template <typename T>
[[gnu::always_inline]] inline void rows(T* logits, const int64_t* targets, float* log_probs, bool* is_argmax,
                                        bool makes_gradient, const float* scales, int64_t begin, int64_t end,
                                        int64_t vocab_size) {
  for (int64_t row = begin; row < end; ++row) {
    T* values = logits + row * vocab_size;
    const float target = static_cast<float>(values[targets[row]]);
    const float maximum = largest(values, vocab_size);
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < vocab_size; ++i) sum += fast_exp(static_cast<float>(values[i]) - maximum);
    const float log_sum = maximum + std::log(sum);
    log_probs[row] = target - log_sum;
    is_argmax[row] = is_first_largest(values, targets[row], maximum);
    if (!makes_gradient) continue;
    const float scale = scales != nullptr ? scales[row] : 1.0f;
    for (int64_t i = 0; i < vocab_size; ++i)
      values[i] = static_cast<T>(-scale * fast_exp(static_cast<float>(values[i]) - log_sum));
    values[targets[row]] = static_cast<T>(scale * (1.0f - fast_exp(target - log_sum)));
  }
}

// The logarithm of a probability that is 0 in fp32; lower ones times it are nothing.
constexpr float kLeastLogProb = -88.0f;

// With a temperature and entropies: z = logit / temperature, H = ln sum e^(z - max) - mean of (z - max).
template <typename T>
[[gnu::always_inline]] inline void tempered_rows(T* logits, const int64_t* targets, float* log_probs, bool* is_argmax,
                                                 bool makes_gradient, const float* scales,
                                                 const TemperedSoftmax& tempered, int64_t begin, int64_t end,
                                                 int64_t vocab_size) {
  const float inverse = tempered.inverse_temperature;
  for (int64_t row = begin; row < end; ++row) {
    T* values = logits + row * vocab_size;
    const float target = static_cast<float>(values[targets[row]]);
    const float maximum = largest(values, vocab_size);
    float sum = 0.0f, weighted = 0.0f;
#pragma omp simd reduction(+ : sum, weighted)
    for (int64_t i = 0; i < vocab_size; ++i) {
      const float below = (static_cast<float>(values[i]) - maximum) * inverse;
      const float share = fast_exp(below);
      sum += share;
      weighted += share * (below > kLeastLogProb ? below : kLeastLogProb);
    }
    const float log_sum = std::log(sum), entropy = log_sum - weighted / sum;
    log_probs[row] = (target - maximum) * inverse - log_sum;
    if (tempered.entropies != nullptr) tempered.entropies[row] = entropy;
    is_argmax[row] = is_first_largest(values, targets[row], maximum);
    if (!makes_gradient) continue;
    const float scale = scales != nullptr ? scales[row] : 1.0f;
    const float entropy_scale = tempered.entropy_scales != nullptr ? tempered.entropy_scales[row] : 0.0f;
    for (int64_t i = 0; i < vocab_size; ++i) {
      const float log_prob = (static_cast<float>(values[i]) - maximum) * inverse - log_sum;
      const float bounded = log_prob > kLeastLogProb ? log_prob : kLeastLogProb;
      values[i] = static_cast<T>(-inverse * fast_exp(log_prob) * (scale + entropy_scale * (bounded + entropy)));
    }
    const float log_prob = log_probs[row], p = fast_exp(log_prob);
    const float bounded = log_prob > kLeastLogProb ? log_prob : kLeastLogProb;
    values[targets[row]] = static_cast<T>(inverse * (scale * (1.0f - p) - entropy_scale * p * (bounded + entropy)));
  }
}

}  // namespace

#define DSFT_LOG_PROBS_OF(T)                                                                                           \
  template <>                                                                                                          \
  DSFT_VECTOR_CLONES void token_log_probs_rows<T>(                                                                     \
      T * logits, const int64_t* targets, float* log_probs, bool* is_argmax, bool makes_gradient, const float* scales, \
      const TemperedSoftmax& tempered, int64_t begin, int64_t end, int64_t vocab_size) {                               \
    if (tempered.is_plain())                                                                                           \
      rows(logits, targets, log_probs, is_argmax, makes_gradient, scales, begin, end, vocab_size);                     \
    else                                                                                                               \
      tempered_rows(logits, targets, log_probs, is_argmax, makes_gradient, scales, tempered, begin, end, vocab_size);  \
  }
DSFT_LOG_PROBS_OF(float)
DSFT_LOG_PROBS_OF(c10::BFloat16)
DSFT_LOG_PROBS_OF(c10::Half)

}  // namespace dsft::kernels::cpu

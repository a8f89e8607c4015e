#include "kernels/rms_norm_cpu.h"

#include <cmath>

#include "kernels/vector_loops.h"

namespace dsft::kernels::cpu {
namespace {

template <typename T>
[[gnu::always_inline]] inline void forward(const T* x, const T* weight, T* y, float* inverse_rms, int64_t begin,
                                           int64_t end, int64_t size, float eps) {
  for (int64_t row = begin; row < end; ++row) {
    const T* in = x + row * size;
    T* out = y + row * size;
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < size; ++i) {
      const float value = static_cast<float>(in[i]);
      sum += value * value;
    }
    const float scale = 1.0f / std::sqrt(sum / static_cast<float>(size) + eps);
    inverse_rms[row] = scale;
    for (int64_t i = 0; i < size; ++i)
      out[i] = static_cast<T>(static_cast<float>(static_cast<T>(static_cast<float>(in[i]) * scale)) *
                              static_cast<float>(weight[i]));
  }
}

template <typename T>
[[gnu::always_inline]] inline void backward(const T* gradient, const T* x, const T* weight, const float* inverse_rms,
                                            T* x_gradient, float* weight_gradient, int64_t begin, int64_t end,
                                            int64_t size) {
  for (int64_t row = begin; row < end; ++row) {
    const T* g = gradient + row * size;
    const T* in = x + row * size;
    T* out = x_gradient + row * size;
    const float scale = inverse_rms[row];
    float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
    for (int64_t i = 0; i < size; ++i)
      dot += static_cast<float>(g[i]) * static_cast<float>(weight[i]) * static_cast<float>(in[i]);
    const float correction = dot * scale * scale / static_cast<float>(size);
    for (int64_t i = 0; i < size; ++i)
      out[i] = static_cast<T>(
          scale * (static_cast<float>(g[i]) * static_cast<float>(weight[i]) - static_cast<float>(in[i]) * correction));
    if (weight_gradient)
      for (int64_t i = 0; i < size; ++i)
        weight_gradient[i] +=
            static_cast<float>(g[i]) * static_cast<float>(static_cast<T>(static_cast<float>(in[i]) * scale));
  }
}

}  // namespace

// target_clones needs plain functions, so each type is written out.
#define DSFT_RMS_NORM_OF(T)                                                                                          \
  template <>                                                                                                        \
  DSFT_VECTOR_CLONES void rms_norm_rows<T>(const T* x, const T* weight, T* y, float* inverse_rms, int64_t begin,     \
                                           int64_t end, int64_t size, float eps) {                                   \
    forward(x, weight, y, inverse_rms, begin, end, size, eps);                                                       \
  }                                                                                                                  \
  template <>                                                                                                        \
  DSFT_VECTOR_CLONES void rms_norm_backward_rows<T>(const T* gradient, const T* x, const T* weight,                  \
                                                    const float* inverse_rms, T* x_gradient, float* weight_gradient, \
                                                    int64_t begin, int64_t end, int64_t size) {                      \
    backward(gradient, x, weight, inverse_rms, x_gradient, weight_gradient, begin, end, size);                       \
  }
DSFT_RMS_NORM_OF(float)
DSFT_RMS_NORM_OF(c10::BFloat16)
DSFT_RMS_NORM_OF(c10::Half)

}  // namespace dsft::kernels::cpu

#include "kernels/swiglu_cpu.h"

#include "kernels/fast_exp.h"
#include "kernels/vector_loops.h"

namespace dsft::kernels::cpu {
namespace {

template <typename T>
[[gnu::always_inline]] inline void forward(const T* gate, const T* up, T* y, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const float g = static_cast<float>(gate[i]);
    const T silu = static_cast<T>(g / (1.0f + fast_exp(-g)));
    y[i] = static_cast<T>(static_cast<float>(silu) * static_cast<float>(up[i]));
  }
}

template <typename T>
[[gnu::always_inline]] inline void backward(const T* gradient, const T* gate, const T* up, T* gate_gradient,
                                            T* up_gradient, int64_t begin, int64_t end) {
#pragma omp simd  // the gradients may stand in the places of gate and up, but not one element further
  for (int64_t i = begin; i < end; ++i) {
    const float g = static_cast<float>(gate[i]), u = static_cast<float>(up[i]), dy = static_cast<float>(gradient[i]);
    const float sigmoid = 1.0f / (1.0f + fast_exp(-g));
    up_gradient[i] = static_cast<T>(dy * static_cast<float>(static_cast<T>(g * sigmoid)));
    gate_gradient[i] = static_cast<T>(dy * u * sigmoid * (1.0f + g * (1.0f - sigmoid)));
  }
}

}  // namespace

#define DSFT_SWIGLU_OF(T)                                                                                              \
  template <>                                                                                                          \
  DSFT_VECTOR_CLONES void swiglu_elements<T>(const T* gate, const T* up, T* y, int64_t begin, int64_t end) {           \
    forward(gate, up, y, begin, end);                                                                                  \
  }                                                                                                                    \
  template <>                                                                                                          \
  DSFT_VECTOR_CLONES void swiglu_backward_elements<T>(const T* gradient, const T* gate, const T* up, T* gate_gradient, \
                                                      T* up_gradient, int64_t begin, int64_t end) {                    \
    backward(gradient, gate, up, gate_gradient, up_gradient, begin, end);                                              \
  }
DSFT_SWIGLU_OF(float)
DSFT_SWIGLU_OF(c10::BFloat16)
DSFT_SWIGLU_OF(c10::Half)

}  // namespace dsft::kernels::cpu

#include "kernels/rotary_cpu.h"

#include "kernels/vector_loops.h"

namespace dsft::kernels::cpu {
namespace {

template <typename T>
[[gnu::always_inline]] inline void rotate(const T* x, int64_t token_stride, const float* cos, const float* sin,
                                          float sign, T* y, int64_t begin, int64_t end, int64_t heads, int64_t half) {
  for (int64_t token = begin; token < end; ++token) {
    const float* c = cos + token * half;
    const float* s = sin + token * half;
    for (int64_t head = 0; head < heads; ++head) {
      const T* in = x + token * token_stride + head * 2 * half;
      T* out = y + (token * heads + head) * 2 * half;
      for (int64_t i = 0; i < half; ++i) {
        const float first = static_cast<float>(in[i]), second = static_cast<float>(in[half + i]);
        out[i] = static_cast<T>(first * c[i] - second * s[i] * sign);
        out[half + i] = static_cast<T>(second * c[i] + first * s[i] * sign);
      }
    }
  }
}

}  // namespace

#define DSFT_ROTATE_OF(T)                                                                                        \
  template <>                                                                                                    \
  DSFT_VECTOR_CLONES void rotate_tokens<T>(const T* x, int64_t token_stride, const float* cos, const float* sin, \
                                           float sign, T* y, int64_t begin, int64_t end, int64_t heads,          \
                                           int64_t half) {                                                       \
    rotate(x, token_stride, cos, sin, sign, y, begin, end, heads, half);                                         \
  }
DSFT_ROTATE_OF(float)
DSFT_ROTATE_OF(c10::BFloat16)
DSFT_ROTATE_OF(c10::Half)

}  // namespace dsft::kernels::cpu

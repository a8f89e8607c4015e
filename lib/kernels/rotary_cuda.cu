#include "kernels/cuda_common.cuh"
#include "kernels/rotary_cuda.h"

namespace dsft::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Each thread rotates kSize neighbouring pairs of one head.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    rotate_pairs(const T* x, int64_t token_stride, const float* cos, const float* sin, float sign, T* y, int64_t count,
                 int heads, int half) {
  struct alignas(sizeof(T) * kSize) Piece {
    T values[kSize];
  };
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= count) return;
  const int pieces = half / kSize;
  const int64_t head_index = index / pieces;
  const int i = static_cast<int>(index % pieces) * kSize;
  const int64_t token = head_index / heads;
  const int head = static_cast<int>(head_index % heads);
  const T* in = x + token * token_stride + int64_t{head} * 2 * half + i;
  T* out = y + head_index * 2 * half + i;
  const Piece first = *reinterpret_cast<const Piece*>(in), second = *reinterpret_cast<const Piece*>(in + half);
  Piece first_out, second_out;
#pragma unroll
  for (int k = 0; k < kSize; ++k) {
    const float c = cos[token * half + i + k], s = sin[token * half + i + k] * sign;
    const float a = to_float(first.values[k]), b = to_float(second.values[k]);
    first_out.values[k] = from_float<T>(a * c - b * s);
    second_out.values[k] = from_float<T>(b * c + a * s);
  }
  *reinterpret_cast<Piece*>(out) = first_out;
  *reinterpret_cast<Piece*>(out + half) = second_out;
}

}  // namespace

void rotate(const void* x, int64_t token_stride, const float* cos, const float* sin, float sign, void* y,
            int64_t tokens, int64_t heads, int64_t half, FloatType type, Stream stream) {
  if (tokens * heads * half == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    const auto launch = [&](auto size) {
      const int64_t count = tokens * heads * (half / size());
      rotate_pairs<T, size()><<<(count + kThreads - 1) / kThreads, kThreads, 0, stream_of(stream)>>>(
          static_cast<const T*>(x), token_stride, cos, sin, sign, static_cast<T*>(y), count, static_cast<int>(heads),
          static_cast<int>(half));
    };
    constexpr int kSize = Vector<T>::kSize;
    if (half % kSize == 0 && token_stride % kSize == 0)
      launch(std::integral_constant<int, kSize>{});
    else
      launch(std::integral_constant<int, 1>{});
  });
  check_launch("rotate");
}

}  // namespace dsft::kernels::cuda

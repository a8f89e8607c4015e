#include "kernels/cuda_common.cuh"
#include "kernels/swiglu_cuda.h"

namespace dsft::kernels::cuda {
namespace {

constexpr int kThreads = 256;

__device__ inline float sigmoid(float value) {
  return 1.0f / (1.0f + __expf(-value));
}

template <typename T>
__device__ T forward_of(T gate, T up) {
  const float g = to_float(gate);
  return from_float<T>(rounded<T>(g * sigmoid(g)) * to_float(up));
}

template <typename T>
__device__ void backward_of(T gradient, T gate, T up, T& gate_gradient, T& up_gradient) {
  const float g = to_float(gate), dy = to_float(gradient), s = sigmoid(g);
  up_gradient = from_float<T>(dy * rounded<T>(g * s));
  gate_gradient = from_float<T>(dy * to_float(up) * s * (1.0f + g * (1.0f - s)));
}

template <typename T>
__global__ void __launch_bounds__(kThreads) forward(const T* gate, const T* up, T* y, int64_t numel) {
  constexpr int kSize = Vector<T>::kSize;
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kSize;
  if (first + kSize <= numel) {
    const Vector<T> g = load(gate + first), u = load(up + first);
    Vector<T> out;
#pragma unroll
    for (int i = 0; i < kSize; ++i) out.values[i] = forward_of(g.values[i], u.values[i]);
    store(y + first, out);
  } else {
    for (int64_t i = first; i < numel; ++i) y[i] = forward_of(gate[i], up[i]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    backward(const T* gradient, const T* gate, const T* up, T* gate_gradient, T* up_gradient, int64_t numel) {
  constexpr int kSize = Vector<T>::kSize;
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kSize;
  if (first + kSize <= numel) {
    const Vector<T> dy = load(gradient + first), g = load(gate + first), u = load(up + first);
    Vector<T> dg, du;
#pragma unroll
    for (int i = 0; i < kSize; ++i) backward_of(dy.values[i], g.values[i], u.values[i], dg.values[i], du.values[i]);
    store(gate_gradient + first, dg);
    store(up_gradient + first, du);
  } else {
    for (int64_t i = first; i < numel; ++i) backward_of(gradient[i], gate[i], up[i], gate_gradient[i], up_gradient[i]);
  }
}

template <typename T>
int64_t blocks_for(int64_t numel) {
  const int64_t per_block = int64_t{kThreads} * Vector<T>::kSize;
  return (numel + per_block - 1) / per_block;
}

}  // namespace

void swiglu(const void* gate, const void* up, void* y, int64_t numel, FloatType type, Stream stream) {
  if (numel == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    forward<T><<<blocks_for<T>(numel), kThreads, 0, stream_of(stream)>>>(
        static_cast<const T*>(gate), static_cast<const T*>(up), static_cast<T*>(y), numel);
  });
  check_launch("swiglu");
}

void swiglu_backward(const void* gradient, const void* gate, const void* up, void* gate_gradient, void* up_gradient,
                     int64_t numel, FloatType type, Stream stream) {
  if (numel == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    backward<T><<<blocks_for<T>(numel), kThreads, 0, stream_of(stream)>>>(
        static_cast<const T*>(gradient), static_cast<const T*>(gate), static_cast<const T*>(up),
        static_cast<T*>(gate_gradient), static_cast<T*>(up_gradient), numel);
  });
  check_launch("swiglu_backward");
}

}  // namespace dsft::kernels::cuda

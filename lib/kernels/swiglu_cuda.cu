#include "kernels/swiglu.cuh"
#include "kernels/swiglu_cuda.h"

namespace dsft::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__device__ void backward_of(T gradient, T gate, T up, T& gate_gradient, T& up_gradient) {
  const float g = to_float(gate), dy = to_float(gradient), s = sigmoid(g);
  up_gradient = from_float<T>(dy * rounded<T>(g * s));
  gate_gradient = from_float<T>(dy * to_float(up) * s * (1.0f + g * (1.0f - s)));
}

// Each thread takes kSize neighbouring elements of a row.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads) forward(const T* gate_up, T* y, int64_t count, int64_t size) {
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kSize;
  if (first >= count) return;
  using P = Piece<T, kSize>;
  const T* gate = gate_up + first + first / size * size;  // the rows before are twice as long
  const P g = *reinterpret_cast<const P*>(gate), u = *reinterpret_cast<const P*>(gate + size);
  P out;
#pragma unroll
  for (int i = 0; i < kSize; ++i) out.values[i] = swiglu_of(g.values[i], u.values[i]);
  *reinterpret_cast<P*>(y + first) = out;
}

template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    backward(const T* gradient, const T* gate_up, T* gate_up_gradient, int64_t count, int64_t size) {
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kSize;
  if (first >= count) return;
  using P = Piece<T, kSize>;
  const int64_t place = first + first / size * size;
  const P dy = *reinterpret_cast<const P*>(gradient + first), g = *reinterpret_cast<const P*>(gate_up + place),
          u = *reinterpret_cast<const P*>(gate_up + place + size);
  P dg, du;
#pragma unroll
  for (int i = 0; i < kSize; ++i) backward_of(dy.values[i], g.values[i], u.values[i], dg.values[i], du.values[i]);
  *reinterpret_cast<P*>(gate_up_gradient + place) = dg;
  *reinterpret_cast<P*>(gate_up_gradient + place + size) = du;
}

// body(number of elements of a thread, number of blocks)
template <typename T, typename Body>
void visit_sizes(int64_t rows, int64_t size, Body body) {
  constexpr int kSize = Vector<T>::kSize;
  const auto blocks = [&](int64_t each) { return (rows * size / each + kThreads - 1) / kThreads; };
  if (size % kSize == 0)
    body(std::integral_constant<int, kSize>{}, blocks(kSize));
  else
    body(std::integral_constant<int, 1>{}, blocks(1));
}

}  // namespace

void swiglu(const void* gate_up, void* y, int64_t rows, int64_t size, FloatType type, Stream stream) {
  if (rows * size == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    visit_sizes<T>(rows, size, [&](auto each, int64_t blocks) {
      forward<T, each()><<<blocks, kThreads, 0, stream_of(stream)>>>(static_cast<const T*>(gate_up), static_cast<T*>(y),
                                                                     rows * size, size);
    });
  });
  check_launch("swiglu");
}

void swiglu_backward(const void* gradient, const void* gate_up, void* gate_up_gradient, int64_t rows, int64_t size,
                     FloatType type, Stream stream) {
  if (rows * size == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    visit_sizes<T>(rows, size, [&](auto each, int64_t blocks) {
      backward<T, each()>
          <<<blocks, kThreads, 0, stream_of(stream)>>>(static_cast<const T*>(gradient), static_cast<const T*>(gate_up),
                                                       static_cast<T*>(gate_up_gradient), rows * size, size);
    });
  });
  check_launch("swiglu_backward");
}

}  // namespace dsft::kernels::cuda

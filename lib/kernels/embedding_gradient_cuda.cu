#include "kernels/cuda_common.cuh"
#include "kernels/embedding_gradient_cuda.h"

namespace dsft::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kAhead = 4;  // tokens of one id whose gradients are asked for together

// A block for each token: that of the first one of an id adds up all of them, in the columns of grid.y.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    add_rows(float* sum, const int* sorted, const int64_t* order, const T* gradient, int tokens, int size) {
  const int begin = static_cast<int>(blockIdx.x), id = sorted[begin];
  const int column = (static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x)) * kSize;
  if ((begin > 0 && sorted[begin - 1] == id) || column >= size) return;
  float total[kSize] = {};
  const auto add = [&](const Piece<T, kSize>& piece) {
#pragma unroll
    for (int k = 0; k < kSize; ++k) total[k] += to_float(piece.values[k]);
  };
  const auto piece_of = [&](int i) {
    return *reinterpret_cast<const Piece<T, kSize>*>(gradient + order[i] * size + column);
  };
  int i = begin;
  for (; i + kAhead <= tokens && sorted[i + kAhead - 1] == id; i += kAhead) {
    Piece<T, kSize> pieces[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) pieces[k] = piece_of(i + k);
#pragma unroll
    for (int k = 0; k < kAhead; ++k) add(pieces[k]);
  }
  for (; i < tokens && sorted[i] == id; ++i) add(piece_of(i));
  float* row = sum + int64_t{id} * size + column;
#pragma unroll
  for (int k = 0; k < kSize; ++k) row[k] += total[k];
}

}  // namespace

void add_embedding_gradient(float* sum, const int* sorted, const int64_t* order, const void* gradient, int64_t tokens,
                            int64_t size, FloatType type, Stream stream) {
  if (tokens == 0 || size == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    const auto launch = [&](auto width) {
      constexpr int kSize = width();
      const int64_t parts = (size + kThreads * kSize - 1) / (kThreads * kSize);
      const dim3 grid(static_cast<unsigned>(tokens), static_cast<unsigned>(parts));
      add_rows<T, kSize><<<grid, kThreads, 0, stream_of(stream)>>>(sum, sorted, order, static_cast<const T*>(gradient),
                                                                   static_cast<int>(tokens), static_cast<int>(size));
    };
    if (size % Vector<T>::kSize == 0)
      launch(std::integral_constant<int, Vector<T>::kSize>{});
    else
      launch(std::integral_constant<int, 1>{});
  });
  check_launch("add_embedding_gradient");
}

}  // namespace dsft::kernels::cuda

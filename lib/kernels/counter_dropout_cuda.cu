#include "kernels/counter_dropout_cuda.h"
#include "kernels/cuda_common.cuh"

namespace dsft::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kDraws = 8;  // of 16 bits, from one Philox block

// A thread draws once and serves eight elements.
template <typename T>
__global__ void __launch_bounds__(kThreads) drop(const T* x, T* y, const int64_t* samples, const int64_t* positions,
                                                 int64_t count, int size, int groups, cpu::DropoutStream random) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= count) return;
  const int64_t token = index / groups;
  const int group = static_cast<int>(index % groups);
  const int64_t sample = samples[token];  // and its epoch
  uint32_t words[4] = {static_cast<uint32_t>(sample), static_cast<uint32_t>(positions[token]),
                       static_cast<uint32_t>(sample >> 32), static_cast<uint32_t>(group)};
  philox(words, random.key0, random.key1);
  const T* in = x + token * size + group * kDraws;
  T* out = y + token * size + group * kDraws;
  const int num = min(kDraws, size - group * kDraws);
  struct alignas(sizeof(T) * kDraws > 16 ? 16 : sizeof(T) * kDraws) Piece {
    T values[kDraws];
  };
  const bool is_whole = num == kDraws && size % kDraws == 0;
  Piece piece;
  if (is_whole) {
    piece = *reinterpret_cast<const Piece*>(in);
  } else {
    for (int i = 0; i < num; ++i) piece.values[i] = in[i];
  }
#pragma unroll
  for (int i = 0; i < kDraws; ++i) {
    const uint32_t drawn = i % 2 == 0 ? words[i / 2] & 0xffff : words[i / 2] >> 16;
    piece.values[i] = from_float<T>(to_float(piece.values[i]) * (drawn < random.threshold ? 0.0f : random.scale));
  }
  if (is_whole) {
    *reinterpret_cast<Piece*>(out) = piece;
  } else {
    for (int i = 0; i < num; ++i) out[i] = piece.values[i];
  }
}

}  // namespace

void dropout(const void* x, void* y, const int64_t* samples, const int64_t* positions, int64_t tokens, int64_t size,
             cpu::DropoutStream random, FloatType type, Stream stream) {
  if (tokens * size == 0) return;
  const int64_t groups = (size + kDraws - 1) / kDraws, count = tokens * groups;
  visit(type, [&](auto element) {
    using T = decltype(element);
    drop<T><<<(count + kThreads - 1) / kThreads, kThreads, 0, stream_of(stream)>>>(
        static_cast<const T*>(x), static_cast<T*>(y), samples, positions, count, static_cast<int>(size),
        static_cast<int>(groups), random);
  });
  check_launch("dropout");
}

}  // namespace dsft::kernels::cuda

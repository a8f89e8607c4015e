// One head of queries or keys in the registers of a warp.
#pragma once

#include "kernels/cuda_common.cuh"

namespace dsft::kernels::cuda {

/// A warp holds one head: each lane kPairs neighbouring elements of the first half, and those of the second.
template <typename T, int kPairs>
struct Head {
  struct alignas(sizeof(T) * kPairs) Piece {
    T values[kPairs];
  };
  static constexpr int kHalf = kPairs * kWarp;
  float first[kPairs], second[kPairs];

  __device__ static int column() { return (threadIdx.x % kWarp) * kPairs; }
  __device__ void read(const T* head) {
    const Piece a = *reinterpret_cast<const Piece*>(head + column());
    const Piece b = *reinterpret_cast<const Piece*>(head + kHalf + column());
#pragma unroll
    for (int i = 0; i < kPairs; ++i) first[i] = to_float(a.values[i]), second[i] = to_float(b.values[i]);
  }
  __device__ void write(T* head) const {
    Piece a, b;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) a.values[i] = from_float<T>(first[i]), b.values[i] = from_float<T>(second[i]);
    *reinterpret_cast<Piece*>(head + column()) = a;
    *reinterpret_cast<Piece*>(head + kHalf + column()) = b;
  }
  __device__ float dot(const Head& other) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) sum += first[i] * other.first[i] + second[i] * other.second[i];
    return warp_sum(sum);
  }
  __device__ Head times(const Head& other) const {
    Head out;
#pragma unroll
    for (int i = 0; i < kPairs; ++i)
      out.first[i] = first[i] * other.first[i], out.second[i] = second[i] * other.second[i];
    return out;
  }
  __device__ float inverse_rms(float eps) const { return rsqrtf(dot(*this) / (2 * kHalf) + eps); }
  /// RMSNorm; `weight` null: none.
  __device__ void normalise(const T* weight, float eps) {
    if (weight == nullptr) return;
    Head factors;
    factors.read(weight);
    const float scale = inverse_rms(eps);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) first[i] *= scale * factors.first[i], second[i] *= scale * factors.second[i];
  }
  __device__ void rotate(const float* cos, const float* sin, float sign) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const float c = cos[column() + i], s = sin[column() + i] * sign, a = first[i], b = second[i];
      first[i] = a * c - b * s;
      second[i] = b * c + a * s;
    }
  }
};

}  // namespace dsft::kernels::cuda

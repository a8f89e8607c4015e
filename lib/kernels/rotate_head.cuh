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
  /// As it stands in memory; nothing waits for it before its numbers are taken.
  struct Packed {
    Piece first, second;
    __device__ void read(const T* head) {
      first = *reinterpret_cast<const Piece*>(head + column());
      second = *reinterpret_cast<const Piece*>(head + kHalf + column());
    }
    __device__ void write(T* head) const {
      *reinterpret_cast<Piece*>(head + column()) = first;
      *reinterpret_cast<Piece*>(head + kHalf + column()) = second;
    }
  };
  static constexpr int kHalf = kPairs * kWarp;
  float first[kPairs], second[kPairs];

  __device__ static int column() { return (threadIdx.x % kWarp) * kPairs; }
  __device__ void take(const Packed& packed) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i)
      first[i] = to_float(packed.first.values[i]), second[i] = to_float(packed.second.values[i]);
  }
  __device__ void read(const T* head) {
    Packed packed;
    packed.read(head);
    take(packed);
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
  /// RMSNorm.
  __device__ void normalise(const Head& weight, float eps) {
    const float scale = inverse_rms(eps);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) first[i] *= scale * weight.first[i], second[i] *= scale * weight.second[i];
  }
  /// Of a token, fp32 [kHalf] each.
  struct Angles {
    float cos[kPairs], sin[kPairs];
    __device__ void read(const float* cosines, const float* sines) {
#pragma unroll
      for (int i = 0; i < kPairs; ++i) cos[i] = cosines[column() + i], sin[i] = sines[column() + i];
    }
  };
  __device__ void rotate(const Angles& angles, float sign) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const float c = angles.cos[i], s = angles.sin[i] * sign, a = first[i], b = second[i];
      first[i] = a * c - b * s;
      second[i] = b * c + a * s;
    }
  }
};

}  // namespace dsft::kernels::cuda

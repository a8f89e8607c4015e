// What the kernels share: 16-byte accesses, sums over a group of threads, dispatch on the type.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "base/error.h"
#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

constexpr int kWarp = 32;
constexpr float kLog2e = 1.44269504f;

__device__ inline float to_float(float value) {
  return value;
}
__device__ inline float to_float(__nv_bfloat16 value) {
  return __bfloat162float(value);
}
__device__ inline float to_float(__half value) {
  return __half2float(value);
}

template <typename T>
__device__ T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
  return value;
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16(value);
}
template <>
__device__ inline __half from_float<__half>(float value) {
  return __float2half(value);
}

/// value, rounded to T.
template <typename T>
__device__ float rounded(float value) {
  return to_float(from_float<T>(value));
}

/// Neighbouring elements that one access moves.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Piece {
  T values[kCount];
};

/// As many elements as one 16-byte access moves.
template <typename T>
struct alignas(16) Vector {
  static constexpr int kSize = 16 / sizeof(T);
  T values[kSize];
};

template <typename T>
__device__ Vector<T> load(const T* from) {
  return *reinterpret_cast<const Vector<T>*>(from);
}
template <typename T>
__device__ void store(T* to, const Vector<T>& vector) {
  *reinterpret_cast<Vector<T>*>(to) = vector;
}

__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffff, value, offset);
  return value;
}

/// The sum over a block of kThreads threads, on each of them; over each warp of a larger block where kThreads is 32.
template <int kThreads>
__device__ float group_sum(float value) {
  value = warp_sum(value);
  if constexpr (kThreads > kWarp) {
    __shared__ float sums[kThreads / kWarp];
    __syncthreads();  // the sums of the call before have been read
    if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = 0;
#pragma unroll
    for (int warp = 0; warp < kThreads / kWarp; ++warp) value += sums[warp];
  }
  return value;
}

constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9, kPhiloxWeyl1 = 0xBB67AE85;  ///< what a round adds to the keys

/// A round of Philox4x32 in place.
__device__ inline void philox_round(uint32_t (&words)[4], uint32_t key0, uint32_t key1) {
  const uint64_t product0 = uint64_t{0xD2511F53} * words[0], product1 = uint64_t{0xCD9E8D57} * words[2];
  words[0] = static_cast<uint32_t>(product1 >> 32) ^ words[1] ^ key0;
  words[2] = static_cast<uint32_t>(product0 >> 32) ^ words[3] ^ key1;
  words[1] = static_cast<uint32_t>(product1);
  words[3] = static_cast<uint32_t>(product0);
}

/// One block of Philox4x32-10 in place: philox4x32 of base/counter_random.h.
__device__ inline void philox(uint32_t (&words)[4], uint32_t key0, uint32_t key1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    philox_round(words, key0, key1);
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
}

/// Calls body(T{}) with the device type.
template <typename Body>
void visit(FloatType type, Body body) {
  switch (type) {
    case FloatType::kFloat:
      return body(float{});
    case FloatType::kBFloat16:
      return body(__nv_bfloat16{});
    case FloatType::kHalf:
      return body(__half{});
  }
}

/// Throws where the launch before it was refused.
inline void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    fail(ErrorKind::kDevice, "the CUDA kernel ", kernel, " could not be started: ", cudaGetErrorString(error));
}

inline cudaStream_t stream_of(Stream stream) {
  return static_cast<cudaStream_t>(stream);
}

}  // namespace dsft::kernels::cuda

#include "kernels/cuda_common.cuh"
#include "optim/gradient_norm_cuda.h"

namespace dsft::optim::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kernels::cuda::kWarp;
constexpr int kBlocks = 1056;

// Over a block, on its first thread.
__device__ double block_sum(double value) {
  __shared__ double sums[kWarps];
#pragma unroll
  for (int offset = kernels::cuda::kWarp / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(0xffffffff, value, offset);
  if (threadIdx.x % kernels::cuda::kWarp == 0) sums[threadIdx.x / kernels::cuda::kWarp] = value;
  __syncthreads();
  value = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) value += sums[warp];
  return value;
}

__device__ double square(float value) {
  return static_cast<double>(value) * static_cast<double>(value);
}

__global__ void __launch_bounds__(kThreads) sum_parts(const float* values, int64_t numel, double* parts) {
  constexpr int kSize = kernels::cuda::Vector<float>::kSize;
  const int64_t step = int64_t{kBlocks} * kThreads * kSize;
  int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kSize;
  double sum = 0;
#pragma unroll 4
  for (; first + kSize <= numel; first += step) {
    const auto vector = kernels::cuda::load(values + first);
#pragma unroll
    for (int i = 0; i < kSize; ++i) sum += square(vector.values[i]);
  }
  for (; first < numel; ++first) sum += square(values[first]);  // one thread has the last values
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads) sum_of_parts(const double* parts, double* result) {
  double sum = 0;
  for (int part = threadIdx.x; part < kBlocks; part += kThreads) sum += parts[part];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *result = sum;
}

}  // namespace

int64_t sum_of_squares_parts() {
  return kBlocks;
}

void sum_of_squares(const float* values, int64_t numel, double* parts, double* result, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  sum_parts<<<kBlocks, kThreads, 0, on>>>(values, numel, parts);
  sum_of_parts<<<1, kThreads, 0, on>>>(parts, result);
  kernels::cuda::check_launch("sum_of_squares");
}

}  // namespace dsft::optim::cuda

#include <algorithm>

#include "kernels/cuda_common.cuh"
#include "optim/adamw_cpu.h"
#include "optim/adamw_cuda.h"

namespace dsft::optim::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks =
    1056;  // each thread then takes several pieces, and the factors are worked out less often

struct Betas {
  double beta1, beta2, epsilon, weight_decay;
};

// The numbers of the update, as the CPU works them out: once, in fp64.
__device__ cpu::AdamWFactors factors_of(const AdamWPointers& p, Betas betas) {
  const double rate = *p.learning_rate, t = static_cast<double>(*p.num_applied_updates + 1);
  return {.gradient_factor = static_cast<float>(*p.gradient_factor),
          .decay = static_cast<float>(rate * betas.weight_decay),
          .beta1 = static_cast<float>(betas.beta1),
          .one_minus_beta1 = static_cast<float>(1.0 - betas.beta1),
          .beta2 = static_cast<float>(betas.beta2),
          .one_minus_beta2 = static_cast<float>(1.0 - betas.beta2),
          .step_size = static_cast<float>(rate / (1.0 - pow(betas.beta1, t))),
          .inverse_sqrt_bias_correction = static_cast<float>(1.0 / sqrt(1.0 - pow(betas.beta2, t))),
          .epsilon = static_cast<float>(betas.epsilon)};
}

template <typename Copy>
__global__ void __launch_bounds__(kThreads) update(AdamWPointers p, int64_t numel, Betas betas) {
  __shared__ cpu::AdamWFactors factors;
  if (!*p.is_applied) return;
  if (threadIdx.x == 0) factors = factors_of(p, betas);
  __syncthreads();
  const cpu::AdamWFactors f = factors;
  const int64_t step = int64_t{gridDim.x} * kThreads * 4;
  for (int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4; first < numel; first += step) {
    const int count = static_cast<int>(min(int64_t{4}, numel - first));
    float w[4], g[4], m[4], v[4];
    if (count == 4) {
      *reinterpret_cast<float4*>(w) = *reinterpret_cast<const float4*>(p.weight + first);
      *reinterpret_cast<float4*>(g) = *reinterpret_cast<const float4*>(p.gradient + first);
      *reinterpret_cast<float4*>(m) = *reinterpret_cast<const float4*>(p.exp_avg + first);
      *reinterpret_cast<float4*>(v) = *reinterpret_cast<const float4*>(p.exp_avg_sq + first);
    } else {
      for (int i = 0; i < count; ++i)
        w[i] = p.weight[first + i], g[i] = p.gradient[first + i], m[i] = p.exp_avg[first + i],
        v[i] = p.exp_avg_sq[first + i];
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i >= count) break;
      const float gradient = g[i] * f.gradient_factor;
      m[i] = f.beta1 * m[i] + f.one_minus_beta1 * gradient;
      v[i] = f.beta2 * v[i] + f.one_minus_beta2 * gradient * gradient;
      const float denominator = sqrtf(v[i]) * f.inverse_sqrt_bias_correction + f.epsilon;
      w[i] -= f.decay * w[i] + f.step_size * m[i] / denominator;
    }
    if (count == 4) {
      *reinterpret_cast<float4*>(p.weight + first) = *reinterpret_cast<const float4*>(w);
      *reinterpret_cast<float4*>(p.exp_avg + first) = *reinterpret_cast<const float4*>(m);
      *reinterpret_cast<float4*>(p.exp_avg_sq + first) = *reinterpret_cast<const float4*>(v);
    } else {
      for (int i = 0; i < count; ++i)
        p.weight[first + i] = w[i], p.exp_avg[first + i] = m[i], p.exp_avg_sq[first + i] = v[i];
    }
    if (p.copy != nullptr)
      for (int i = 0; i < count; ++i) static_cast<Copy*>(p.copy)[first + i] = kernels::cuda::from_float<Copy>(w[i]);
  }
}

}  // namespace

void adamw(const AdamWPointers& pointers, int64_t numel, double beta1, double beta2, double epsilon,
           double weight_decay, void* stream) {
  if (numel == 0) return;
  const int64_t per_block = int64_t{kThreads} * 4;
  const int64_t blocks = std::min<int64_t>((numel + per_block - 1) / per_block, kMostBlocks);
  const Betas betas{beta1, beta2, epsilon, weight_decay};
  if (pointers.copy_is_bfloat16)
    update<__nv_bfloat16><<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(pointers, numel, betas);
  else
    update<__half><<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(pointers, numel, betas);
  kernels::cuda::check_launch("adamw");
}

}  // namespace dsft::optim::cuda

#include <algorithm>

#include "kernels/cuda_common.cuh"
#include "optim/adamw_cpu.h"
#include "optim/adamw_cuda.h"

namespace dsft::optim::cuda {
namespace {

constexpr int kThreads = 256;
// each thread then takes several pieces, and the factors are worked out less often
constexpr int64_t kMostBlocks = 1056;

struct Betas {
  double beta1, beta2, epsilon, weight_decay;
};

// The numbers of the update, as the CPU works them out: once, in fp64.
__device__ cpu::AdamWFactors factors_of(const AdamWPointers& p, Betas betas) {
  const double rate = *p.learning_rate, t = static_cast<double>(*p.num_applied_updates + 1);
  const double beta1 = p.beta1 != nullptr ? *p.beta1 : betas.beta1;
  return {.gradient_factor = static_cast<float>(*p.gradient_factor),
          .decay = static_cast<float>(rate * betas.weight_decay),
          .beta1 = static_cast<float>(beta1),
          .one_minus_beta1 = static_cast<float>(1.0 - beta1),
          .beta2 = static_cast<float>(betas.beta2),
          .one_minus_beta2 = static_cast<float>(1.0 - betas.beta2),
          .step_size = static_cast<float>(rate / (1.0 - pow(beta1, t))),
          .inverse_sqrt_bias_correction = static_cast<float>(1.0 / sqrt(1.0 - pow(betas.beta2, t))),
          .epsilon = static_cast<float>(betas.epsilon)};
}

__device__ inline void update_one(float& weight, float gradient, float& exp_avg, float& exp_avg_sq,
                                  const cpu::AdamWFactors& f) {
  gradient *= f.gradient_factor;
  exp_avg = f.beta1 * exp_avg + f.one_minus_beta1 * gradient;
  exp_avg_sq = f.beta2 * exp_avg_sq + f.one_minus_beta2 * gradient * gradient;
  const float denominator = sqrtf(exp_avg_sq) * f.inverse_sqrt_bias_correction + f.epsilon;
  weight -= f.decay * weight + f.step_size * exp_avg / denominator;
}

constexpr int kSize = 4;  // neighbouring elements of a thread
using Floats = kernels::cuda::Piece<float, kSize>;

template <typename Copy>
__global__ void __launch_bounds__(kThreads) update(AdamWPointers p, int64_t numel, Betas betas) {
  using Copies = kernels::cuda::Piece<Copy, kSize>;
  __shared__ cpu::AdamWFactors factors;
  if (!*p.is_applied) return;
  if (threadIdx.x == 0) factors = factors_of(p, betas);
  __syncthreads();
  const cpu::AdamWFactors f = factors;
  const int64_t step = int64_t{gridDim.x} * kThreads * kSize;
  int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kSize;
#pragma unroll 2
  for (; first + kSize <= numel; first += step) {
    Floats w = *reinterpret_cast<const Floats*>(p.weight + first), m = *reinterpret_cast<Floats*>(p.exp_avg + first),
           v = *reinterpret_cast<Floats*>(p.exp_avg_sq + first);
    const Floats g = *reinterpret_cast<const Floats*>(p.gradient + first);
#pragma unroll
    for (int i = 0; i < kSize; ++i) update_one(w.values[i], g.values[i], m.values[i], v.values[i], f);
    *reinterpret_cast<Floats*>(p.weight + first) = w;
    *reinterpret_cast<Floats*>(p.exp_avg + first) = m;
    *reinterpret_cast<Floats*>(p.exp_avg_sq + first) = v;
    if (p.copy == nullptr) continue;
    Copies copies;
#pragma unroll
    for (int i = 0; i < kSize; ++i) copies.values[i] = kernels::cuda::from_float<Copy>(w.values[i]);
    *reinterpret_cast<Copies*>(static_cast<Copy*>(p.copy) + first) = copies;
  }
  for (; first < numel; ++first) {  // one thread has the last elements
    update_one(p.weight[first], p.gradient[first], p.exp_avg[first], p.exp_avg_sq[first], f);
    if (p.copy != nullptr) static_cast<Copy*>(p.copy)[first] = kernels::cuda::from_float<Copy>(p.weight[first]);
  }
}

}  // namespace

void adamw(const AdamWPointers& pointers, int64_t numel, double beta1, double beta2, double epsilon,
           double weight_decay, void* stream) {
  if (numel == 0) return;
  const int64_t per_block = int64_t{kThreads} * kSize;
  const int64_t blocks = std::min<int64_t>((numel + per_block - 1) / per_block, kMostBlocks);
  const Betas betas{beta1, beta2, epsilon, weight_decay};
  if (pointers.copy_is_bfloat16)
    update<__nv_bfloat16><<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(pointers, numel, betas);
  else
    update<__half><<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(pointers, numel, betas);
  kernels::cuda::check_launch("adamw");
}

}  // namespace dsft::optim::cuda

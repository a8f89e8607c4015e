#pragma once

#include "kernels/cuda_common.cuh"

namespace dsft::kernels::cuda {

__device__ inline float sigmoid(float value) {
  return 1.0f / (1.0f + __expf(-value));
}

/// round(silu(gate)) * up.
template <typename T>
__device__ T swiglu_of(T gate, T up) {
  const float g = to_float(gate);
  return from_float<T>(rounded<T>(g * sigmoid(g)) * to_float(up));
}

}  // namespace dsft::kernels::cuda

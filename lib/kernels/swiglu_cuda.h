#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

/// y = round(silu(gate)) * up, [numel] each.
void swiglu(const void* gate, const void* up, void* y, int64_t numel, FloatType type, Stream stream);

/// The gradients of gate and up.
void swiglu_backward(const void* gradient, const void* gate, const void* up, void* gate_gradient, void* up_gradient,
                     int64_t numel, FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda

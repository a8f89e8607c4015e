#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

/// y [rows, size] = round(silu(gate)) * up for gate_up [rows, 2 size].
void swiglu(const void* gate_up, void* y, int64_t rows, int64_t size, FloatType type, Stream stream);

/// The gradient of gate_up for that of y.
void swiglu_backward(const void* gradient, const void* gate_up, void* gate_up_gradient, int64_t rows, int64_t size,
                     FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda

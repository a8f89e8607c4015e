#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

/// y [tokens, heads, 2 half] = x rotated by cos, sin fp32 [tokens, half]; `sign` -1 rotates back. x's heads are dense,
/// its tokens lie `token_stride` elements apart.
void rotate(const void* x, int64_t token_stride, const float* cos, const float* sin, float sign, void* y,
            int64_t tokens, int64_t heads, int64_t half, FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda

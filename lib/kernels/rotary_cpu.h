#pragma once

#include <cstdint>

namespace dsft::kernels::cpu {

/// Tokens [begin, end) of x [T, heads, 2 * half], whose tokens lie `token_stride` apart; sign -1 rotates back (the
/// gradient). y is contiguous.
template <typename T>
void rotate_tokens(const T* x, int64_t token_stride, const float* cos, const float* sin, float sign, T* y,
                   int64_t begin, int64_t end, int64_t heads, int64_t half);

}  // namespace dsft::kernels::cpu

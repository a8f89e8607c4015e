#pragma once

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

/// sum[id] += the gradients of its tokens; sum [V, size], gradient [tokens, size]; `sorted` has the ids in ascending
/// order, order[i] the token of sorted[i].
void add_embedding_gradient(float* sum, const int* sorted, const int64_t* order, const void* gradient, int64_t tokens,
                            int64_t size, FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda

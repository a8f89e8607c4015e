#pragma once

#include <cstdint>

namespace dsft::optim::cuda {

/// Parts that sum_of_squares adds up first.
int64_t sum_of_squares_parts();

/// result = the sum of squares of `numel` fp32 values, in fp64 and always in the same order; `parts` is scratch memory
/// for sum_of_squares_parts() values, `stream` a cudaStream_t.
void sum_of_squares(const float* values, int64_t numel, double* parts, double* result, void* stream);

}  // namespace dsft::optim::cuda

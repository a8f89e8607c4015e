#pragma once

#include <cstdint>

#include "kernels/counter_dropout_cpu.h"
#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

/// y = x * factor for x [tokens, size]; the factors are those of cpu::dropout_tokens.
void dropout(const void* x, void* y, const int64_t* samples, const int64_t* positions, int64_t tokens, int64_t size,
             cpu::DropoutStream random, FloatType type, Stream stream);

}  // namespace dsft::kernels::cuda

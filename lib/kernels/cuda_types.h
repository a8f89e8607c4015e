#pragma once

/// What the CUDA kernels take, without torch and without CUDA's headers, so that both compilers read it in no time.
namespace dsft::kernels::cuda {

enum class FloatType { kFloat, kBFloat16, kHalf };

/// A cudaStream_t.
using Stream = void*;

}  // namespace dsft::kernels::cuda

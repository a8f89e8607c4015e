#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/cuda_types.h"

namespace dsft::kernels::cuda {

/// Whether the CUDA kernels take tensors of this device and type.
bool takes(const at::Tensor& tensor);
FloatType float_type(const at::Tensor& tensor);
/// Whether a tensor's first element lies at a multiple of so many bytes.
bool is_aligned(const at::Tensor& tensor, uintptr_t bytes = 16);
/// The stream that work on this tensor goes to.
Stream stream_for(const at::Tensor& tensor);

}  // namespace dsft::kernels::cuda

#pragma once

#include <cstdint>

/// What the CUDA runtime says; no_cuda.cpp answers where the build has none.
namespace dsft::device::cuda {

bool is_built();
int device_count();
void synchronize();
void* current_stream(int index);
int64_t peak_allocated_bytes(int index);

}  // namespace dsft::device::cuda

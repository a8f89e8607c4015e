#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

/// What the CUDA runtime says; no_cuda.cpp answers where the build has none.
namespace dsft::device::cuda {

bool is_built();
int device_count();
std::string device_name(int index);
/// Has the allocator extend its segments page by page, unless the environment says how it works: batches of different
/// lengths leave it with gaps else (docs/benchmarks.md).
void extend_segments();
void set_device(int index);
void synchronize();
void forbid_waits(bool are_forbidden);
void* current_stream(int index);
int64_t peak_allocated_bytes(int index);
/// The GPU's memory, less what other programs hold and what torch is told to leave.
int64_t attainable_bytes(int index);
/// What no tensor holds of the GPU's memory, within what torch is told to leave.
int64_t free_bytes(int index);
void forget_memory_use(int index);
void restart_peak(int index);
void clear_error();
/// Locks pages of the host for copies; gives what CUDA says against it, or "".
std::string pin(void* memory, size_t num_bytes);
void unpin(void* memory);

}  // namespace dsft::device::cuda

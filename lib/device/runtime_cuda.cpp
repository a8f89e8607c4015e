#include <ATen/cuda/CUDAContext.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cstdlib>

#include "device/cuda_device.h"
#include "device/shareable_memory.h"

namespace dsft::device::cuda {

bool is_built() {
  return true;
}
int device_count() {
  return c10::cuda::device_count();
}
std::string device_name(int index) {
  return at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(index))->name;
}
void extend_segments() {
  if (!std::getenv("PYTORCH_ALLOC_CONF") && !std::getenv("PYTORCH_CUDA_ALLOC_CONF"))
    c10::CachingAllocator::setAllocatorSettings("expandable_segments:True");
}
void set_device(int index) {
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
}
void synchronize() {
  c10::cuda::device_synchronize();
}
void forbid_waits(bool are_forbidden) {
  using c10::cuda::SyncDebugMode;
  c10::cuda::warning_state().set_sync_debug_mode(are_forbidden ? SyncDebugMode::L_ERROR : SyncDebugMode::L_DISABLED);
}
void* current_stream(int index) {
  return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(index)).stream();
}
int64_t peak_allocated_bytes(int index) {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(index));
  return stats.allocated_bytes[0].peak + shareable_bytes(index);  // that stays as long as the communicator
}
int64_t attainable_bytes(int index) {
  // this process has more than its tensors there: CUDA's context and what its libraries hold
  constexpr int64_t kBesideTensors = int64_t{1} << 30;
  namespace allocator = c10::cuda::CUDACachingAllocator;
  const auto device = static_cast<c10::DeviceIndex>(index);
  const c10::cuda::CUDAGuard guard(device);
  size_t free = 0, total = 0;
  C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  const int64_t own =
      allocator::getDeviceStats(device).reserved_bytes[0].current + shareable_bytes(index) + kBesideTensors;
  const double fraction = allocator::getMemoryFraction(device);
  return std::min({static_cast<int64_t>(total), static_cast<int64_t>(free) + own,
                   static_cast<int64_t>(fraction * static_cast<double>(total))});
}
int64_t free_bytes(int index) {
  namespace allocator = c10::cuda::CUDACachingAllocator;
  const auto device = static_cast<c10::DeviceIndex>(index);
  const c10::cuda::CUDAGuard guard(device);
  size_t free = 0, total = 0;
  C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  const auto stats = allocator::getDeviceStats(device);
  const int64_t held = stats.active_bytes[0].current, kept = stats.reserved_bytes[0].current - held;
  const double fraction = allocator::getMemoryFraction(device);
  return std::min(static_cast<int64_t>(free) + kept,
                  static_cast<int64_t>(fraction * static_cast<double>(total)) - held - shareable_bytes(index));
}
void restart_peak(int index) {
  c10::cuda::CUDACachingAllocator::resetPeakStats(static_cast<c10::DeviceIndex>(index));
}
void forget_memory_use(int index) {
  c10::cuda::CUDACachingAllocator::emptyCache();
  restart_peak(index);
}
void clear_error() {
  C10_CUDA_CLEAR_ERROR();
}
std::string pin(void* memory, size_t num_bytes) {
  const cudaError_t status = cudaHostRegister(memory, num_bytes, cudaHostRegisterPortable);
  if (status == cudaSuccess) return "";
  cudaGetLastError();  // told here; the next check of another call would find it
  return cudaGetErrorString(status);
}
void unpin(void* memory) {
  cudaHostUnregister(memory);  // at the end of the process the runtime may be gone, and the lock with it
}

}  // namespace dsft::device::cuda

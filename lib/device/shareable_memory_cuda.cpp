#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "device/shareable_memory.h"

namespace dsft::device {
namespace {

constexpr int kMaxDevices = 64;
// Smaller allocations may lie in a common block, and a handle names the whole block.
constexpr int64_t kGranularity = int64_t{2} << 20;
std::array<std::atomic<int64_t>, kMaxDevices> bytes_of_device{};

std::atomic<int64_t>& bytes_of(int device) {
  DSFT_CHECK(device >= 0 && device < kMaxDevices, "GPU ", device);
  return bytes_of_device[static_cast<size_t>(device)];
}

// Told here; the next check of another call would find it.
bool succeeds(cudaError_t status) {
  if (status == cudaSuccess) return true;
  cudaGetLastError();
  return false;
}

struct Handle {
  cudaIpcMemHandle_t memory;
  std::array<char, ShareableMemory::kHandleBytes - sizeof(cudaIpcMemHandle_t)> boot_id;  // it means nothing beyond that
};
static_assert(sizeof(Handle) == ShareableMemory::kHandleBytes);

// Of the running kernel.
std::string boot_id() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
  return id;
}

}  // namespace

ShareableMemory::ShareableMemory(int64_t num_bytes, int device)
    : num_bytes_((num_bytes + kGranularity - 1) / kGranularity * kGranularity), device_(device) {
  const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
  const auto size = static_cast<size_t>(num_bytes_);
  if (!succeeds(cudaMalloc(&data_, size))) {
    c10::cuda::CUDACachingAllocator::emptyCache();
    const cudaError_t status = cudaMalloc(&data_, size);
    if (!succeeds(status))
      fail(ErrorKind::kDevice,
           status == cudaErrorMemoryAllocation ? "CUDA out of memory: " : "cudaMalloc: ", num_bytes_,
           " bytes for slices of parameters on GPU ", device, " (", cudaGetErrorString(status), ")");
  }
  bytes_of(device) += num_bytes_;
}

ShareableMemory::~ShareableMemory() {
  const c10::cuda::OptionalCUDAGuard guard(static_cast<c10::DeviceIndex>(device_));
  if (succeeds(cudaFree(data_))) bytes_of(device_) -= num_bytes_;
}

std::string ShareableMemory::handle() const {
  const std::string host = boot_id();
  Handle handle{};
  if (host.empty() || !succeeds(cudaIpcGetMemHandle(&handle.memory, data_))) return "";
  host.copy(handle.boot_id.data(), handle.boot_id.size());
  return {reinterpret_cast<const char*>(&handle), sizeof handle};
}

std::unique_ptr<MappedMemory> MappedMemory::map(const std::string& handle, int device) {
  Handle given{};
  if (handle.size() != sizeof given) return nullptr;
  std::memcpy(&given, handle.data(), sizeof given);
  const std::string host = boot_id();
  if (host.empty() || host.compare(0, given.boot_id.size(), given.boot_id.data(), host.size()) != 0) return nullptr;
  const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
  void* data = nullptr;
  if (!succeeds(cudaIpcOpenMemHandle(&data, given.memory, cudaIpcMemLazyEnablePeerAccess))) return nullptr;
  return std::unique_ptr<MappedMemory>(new MappedMemory(data, device));
}

MappedMemory::~MappedMemory() {
  const c10::cuda::OptionalCUDAGuard guard(static_cast<c10::DeviceIndex>(device_));
  succeeds(cudaIpcCloseMemHandle(data_));
}

int64_t shareable_bytes(int device) {
  return bytes_of(device);
}

}  // namespace dsft::device

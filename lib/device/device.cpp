#include "device/device.h"

#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <new>
#include <string>

#include "base/error.h"
#include "device/cuda_device.h"
#include "device/host_memory.h"

namespace dsft::device {
namespace {

// VmHWM of /proc/self/status: the peak of the resident set, in KiB.
int64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  return 0;
}

}  // namespace

bool has_cuda() {
  return cuda::device_count() > 0;
}

at::Device choose_device(DeviceChoice choice, int local_rank) {
  const int count = choice == DeviceChoice::kCpu ? 0 : cuda::device_count();
  if (count == 0) {
    if (choice == DeviceChoice::kCuda)
      fail(ErrorKind::kDevice, "device: cuda, but ",
           cuda::is_built() ? "no usable GPU is visible (see `dsft env` and CUDA_VISIBLE_DEVICES)"
                            : "this dsft was built without CUDA (see `dsft env`); build it where LibTorch has CUDA and "
                              "the CUDA runtime's headers are found, or use device: cpu");
    return at::Device(at::kCPU);
  }
  if (local_rank >= count)
    fail(ErrorKind::kDevice, "rank ", local_rank, " of this host has no GPU: ", count, " are visible. Start at most ",
         count, " ranks per host.");
  cuda::extend_segments();
  cuda::set_device(local_rank);  // kernels and pinned memory go to the current one
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(local_rank));
}

at::Tensor pinned_for(at::Device device, const at::Tensor& host) {
  return device.is_cuda() && host.is_cpu() ? host.pin_memory() : host;
}

at::Tensor copy_from_host(const at::Tensor& host, at::Device device) {
  return pinned_for(device, host).to(device, /*non_blocking=*/device.is_cuda());
}

void copy_from_host(const at::Tensor& host, at::Tensor& target) {
  target.copy_(pinned_for(target.device(), host), /*non_blocking=*/true);
}

HostCopy::HostCopy(const at::Tensor& tensor) {
  if (tensor.is_cpu()) {
    host_ = tensor.clone();
    return;
  }
  host_ = at::empty(tensor.sizes(), tensor.options().device(at::kCPU).pinned_memory(true));
  host_.copy_(tensor, /*non_blocking=*/true);
  arrival_ = std::make_unique<c10::Event>(tensor.device().type());
  arrival_->record(c10::impl::VirtualGuardImpl(tensor.device().type()).getStream(tensor.device()));
}

HostCopy::~HostCopy() = default;
HostCopy::HostCopy(HostCopy&&) noexcept = default;
HostCopy& HostCopy::operator=(HostCopy&&) noexcept = default;

const at::Tensor& HostCopy::wait() const {
  if (arrival_) arrival_->synchronize();
  return host_;
}

bool is_asynchronous(at::Device device) {
  return device.is_cuda();
}

std::string device_name(at::Device device) {
  return device.is_cuda() ? cuda::device_name(device.index()) : "";
}

void synchronize(at::Device device) {
  if (device.is_cuda()) cuda::synchronize();
}

WaitsForbidden::WaitsForbidden() {
  cuda::forbid_waits(true);
}
WaitsForbidden::~WaitsForbidden() {
  cuda::forbid_waits(false);
}

void* current_stream(at::Device device) {
  return device.is_cuda() ? cuda::current_stream(device.index()) : nullptr;
}

bool says_out_of_memory(std::string_view text) {
  static constexpr auto kSigns = std::to_array<std::string_view>({
      "DefaultCPUAllocator",         // LibTorch's, on the CPU
      "out of memory",               // cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY, as CUDA describes them
      "CUBLAS_STATUS_ALLOC_FAILED",  // a workspace
      "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate",  // what cuBLAS says where its handle finds no room
      "CUDNN_STATUS_ALLOC_FAILED",
      "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
      "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
  });
  return std::any_of(kSigns.begin(), kSigns.end(),
                     [&](std::string_view sign) { return text.find(sign) != std::string_view::npos; });
}

bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) || dynamic_cast<const std::bad_alloc*>(&error)) return true;
  if (const auto* of_torch = dynamic_cast<const c10::Error*>(&error))
    return says_out_of_memory(of_torch->what_without_backtrace());
  const auto* own = dynamic_cast<const Error*>(&error);
  return own && own->kind() == ErrorKind::kDevice && says_out_of_memory(own->what());
}

void clear_error(at::Device device) {
  if (device.is_cuda()) cuda::clear_error();
}

void forget_memory_use(at::Device device) {
  if (device.is_cuda()) cuda::forget_memory_use(device.index());
}

int64_t free_memory_bytes(at::Device device) {
  return device.is_cuda() ? cuda::free_bytes(device.index()) : free_host_memory().free_bytes;
}

int64_t attainable_memory_bytes(at::Device device) {
  return device.is_cuda() ? cuda::attainable_bytes(device.index()) : free_host_memory().limit_bytes;
}

void restart_peak_memory(at::Device device) {
  if (device.is_cuda()) cuda::restart_peak(device.index());
}

int64_t peak_memory_bytes(at::Device device) {
  return device.is_cuda() ? cuda::peak_allocated_bytes(device.index()) : peak_resident_bytes();
}

}  // namespace dsft::device

#pragma once

#include <ATen/core/Tensor.h>

#include <c10/core/Event.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

#include "device/device_config.h"

namespace dsft::device {

/// Whether this build can use CUDA and the machine has a usable GPU.
bool has_cuda();

/// The device of this process: for CUDA the GPU number `local_rank` of those visible, which becomes the current one.
/// Throws kDevice where CUDA is asked for and there is none.
at::Device choose_device(DeviceChoice choice, int local_rank);

/// A host tensor in memory from which copies to `device` are asynchronous: pinned for a GPU, where it is not yet; for
/// others the tensor itself.
at::Tensor pinned_for(at::Device device, const at::Tensor& host);

/// A host tensor on `device`, by a copy that the host does not wait for; what is queued there later sees it done.
at::Tensor copy_from_host(const at::Tensor& host, at::Device device);

/// The same into a contiguous tensor of equal shape and type.
void copy_from_host(const at::Tensor& host, at::Tensor& target);

/// A tensor of a device on its way to the host, which goes on meanwhile.
class HostCopy {
 public:
  explicit HostCopy(const at::Tensor& tensor);
  ~HostCopy();
  HostCopy(HostCopy&&) noexcept;
  HostCopy& operator=(HostCopy&&) noexcept;

  /// Waits for it.
  const at::Tensor& wait() const;

 private:
  at::Tensor host_;
  std::unique_ptr<c10::Event> arrival_;  // null where nothing is to be waited for
};

/// Whether the host goes on while the device works.
bool is_asynchronous(at::Device device);

/// The GPU's name; "" for the CPU.
std::string device_name(at::Device device);

/// While it lives, whatever makes the host wait for a GPU throws, but for HostCopy::wait and synchronize: for tests.
class WaitsForbidden {
 public:
  WaitsForbidden();
  ~WaitsForbidden();
  WaitsForbidden(const WaitsForbidden&) = delete;
  WaitsForbidden& operator=(const WaitsForbidden&) = delete;
};

/// Waits until all work that was given to the device is done.
void synchronize(at::Device device);

/// The cudaStream_t that torch's operations on this device go to now; null where it is no GPU.
void* current_stream(at::Device device);

/// Whether the text of an error of LibTorch, CUDA, cuBLAS or cuDNN says that there was too little memory.
bool says_out_of_memory(std::string_view text);

/// Whether this says that the device, or the host, has no more memory.
bool is_out_of_memory(const std::exception& error);

/// Forgets the error of a CUDA call that has failed and been dealt with; the next check of another call would find it.
void clear_error(at::Device device);

/// Gives memory that torch keeps for later tensors back to a GPU, and counts the peak anew there.
void forget_memory_use(at::Device device);

/// Memory that this process could have for itself, in bytes: of a GPU, less what other programs hold there and what
/// torch is told to leave (per_process_memory_fraction); on the CPU the host's limit (HostMemory::limit_bytes).
int64_t attainable_memory_bytes(at::Device device);

/// Memory that nothing holds now, in bytes: of a GPU, what torch keeps for later tensors included; on the CPU the
/// host's (HostMemory::free_bytes).
int64_t free_memory_bytes(at::Device device);

/// Largest memory so far, in bytes: what torch has allocated on a GPU, or this process's resident set on the CPU.
int64_t peak_memory_bytes(at::Device device);
/// Of a GPU, the peak is that from now on. A process's own stays.
void restart_peak_memory(at::Device device);

}  // namespace dsft::device

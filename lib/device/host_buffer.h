#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "device/host_memory.h"

namespace dsft::device {

/// kPinned: page-locked, so that a GPU copies from and to it while the host goes on. Needs a GPU.
enum class HostPages { kPageable, kPinned };

/// Memory of the host for what lies beside a device: zeros, in huge pages where the kernel gives them. Its pages are
/// first written by all threads of at::parallel_for, so that they lie on the memory nodes of this process's cores (the
/// launcher binds a rank to neighbours), and locked only then: cudaHostAlloc would put all of them on the node of the
/// caller, who would also write them alone. Tensors keep it alive.
class HostBuffer {
 public:
  /// Faults (kDevice) where `memory` has no room for it, before any is taken, and where the pages cannot be locked.
  HostBuffer(int64_t numel, at::ScalarType type, HostPages pages, const HostMemory& memory = free_host_memory());

  /// All of it: [numel], contiguous. Whoever copies asynchronously from or to it waits for that before the last tensor
  /// is given up.
  const at::Tensor& tensor() const { return tensor_; }

 private:
  at::Tensor tensor_;
};

}  // namespace dsft::device

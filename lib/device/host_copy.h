#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <optional>

namespace dsft::device {

/// Whether the host runs ahead of this device: what it enqueues is done later.
bool is_asynchronous(at::Device device);

/// A device's tensor on its way to the host.
class HostCopy {
 public:
  /// Enqueues the copy behind what the current stream does so far; the tensor may change afterwards.
  explicit HostCopy(const at::Tensor& tensor);

  /// The copy, on the host; waits until it is there.
  const at::Tensor& wait();

 private:
  at::Tensor host_;
  std::optional<c10::Event> done_;  // none where the copy was made at once
};

}  // namespace dsft::device

#include "device/host_copy.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/types.h>

namespace dsft::device {

bool is_asynchronous(at::Device device) {
  return !device.is_cpu();
}

HostCopy::HostCopy(const at::Tensor& tensor) {
  if (!is_asynchronous(tensor.device())) {
    host_ = tensor.clone();
    return;
  }
  host_ = at::empty(tensor.sizes(), tensor.options().device(at::kCPU).pinned_memory(true));
  host_.copy_(tensor, /*non_blocking=*/true);
  done_.emplace(tensor.device().type());
  done_->record(c10::impl::VirtualGuardImpl(tensor.device().type()).getStream(tensor.device()));
}

const at::Tensor& HostCopy::wait() {
  if (done_) done_->synchronize();
  return host_;
}

}  // namespace dsft::device

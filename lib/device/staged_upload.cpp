#include "device/staged_upload.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "base/error.h"
#include "device/device.h"

namespace dsft::device {

StagedUpload::StagedUpload(at::Device device, int64_t piece_bytes) : device_(device), piece_bytes_(piece_bytes) {
  if (is_asynchronous(device))
    stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, /*isHighPriority=*/false);
  buffers_.resize(stream_ ? 2 : 1);
}

StagedUpload::~StagedUpload() {
  try {
    wait();
  } catch (const std::exception&) {
    // a device that takes no work any more says so at the next call
  }
}

void StagedUpload::put(const at::Tensor& target, at::ScalarType type, const std::function<void(void*)>& fill) {
  DSFT_CHECK(target.is_contiguous() && target.device() == device_, "a piece of ", device_.str(), " goes to ",
             target.device().str());
  if (!stream_ && target.scalar_type() == type) return fill(target.data_ptr());
  const auto num_bytes = static_cast<int64_t>(c10::elementSize(type)) * target.numel();
  DSFT_CHECK(num_bytes <= piece_bytes_, "a piece of ", num_bytes, " bytes, and the buffers have ", piece_bytes_);
  const at::NoGradGuard no_grad;
  const c10::OptionalStreamGuard on_stream(stream_);  // and its device, which a new thread has not chosen
  Buffer& buffer = buffers_[next_];
  next_ = (next_ + 1) % buffers_.size();
  if (!buffer.bytes.defined())
    buffer.bytes = at::empty({piece_bytes_}, at::TensorOptions(at::kByte).pinned_memory(stream_.has_value()));
  if (buffer.departed) buffer.departed->synchronize();
  fill(buffer.bytes.data_ptr());
  // a type that differs is converted by the device, behind the copy of the bytes
  target.copy_(buffer.bytes.narrow(0, 0, num_bytes).view(type).view(target.sizes()), /*non_blocking=*/true);
  if (!stream_) return;
  if (!buffer.departed) buffer.departed.emplace(device_.type());
  buffer.departed->record(*stream_);
}

void StagedUpload::wait() {
  for (const Buffer& buffer : buffers_)
    if (buffer.departed) buffer.departed->synchronize();
}

}  // namespace dsft::device

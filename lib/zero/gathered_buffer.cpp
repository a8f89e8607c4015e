#include "zero/gathered_buffer.h"

#include <torch/types.h>

#include <c10/core/StreamGuard.h>

#include <algorithm>

#include "base/error.h"
#include "device/stream_order.h"
#include "nn/parameter_memory.h"

namespace dsft::zero {

GatheredBuffer::GatheredBuffer(at::Tensor whole, comm::Communicator& communicator, const SlicePlace& place)
    : whole_(std::move(whole)), communicator_(communicator), stream_(place.stream) {
  DSFT_CHECK(whole_.is_contiguous() && whole_.storage_offset() == 0 && whole_.numel() % communicator.size() == 0 &&
                 whole_.nbytes() == whole_.storage().nbytes(),
             "a buffer of ", whole_.sizes(), " for ", communicator.size(), " ranks");
  const at::NoGradGuard no_grad;
  const at::Tensor slice = slice_of_whole();
  if (place.on_host) {
    own_ = device::HostBuffer(slice.numel(), slice.scalar_type(), *place.on_host).tensor();
    own_.copy_(slice);
  } else {
    own_ = communicator.make_slice(slice.numel(), slice.options());
    own_.copy_(slice);
  }
  release();
}

at::Tensor GatheredBuffer::slice_of_whole() const {
  const int64_t size = whole_.numel() / communicator_.size();
  return whole_.narrow(0, communicator_.rank() * size, size);
}

void GatheredBuffer::start_gather() {
  if (is_whole_ || gathering_) return;
  c10::StorageImpl* storage = whole_.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(storage->allocator()->allocate(storage->nbytes()));
  // what the current stream has been given so far may have used this memory
  if (stream_) device::put_behind(*stream_, device::current_stream_of(whole_.device()));
  const c10::OptionalStreamGuard on_stream(stream_);
  if (wait_) wait_();
  at::Tensor slice = own_;
  if (own_.device() != whole_.device()) {
    const at::NoGradGuard no_grad;
    slice = slice_of_whole();
    slice.copy_(own_, /*non_blocking=*/true);
  }
  gathering_ = communicator_.start_all_gather(whole_, slice);
  if (stream_) device::record(gathered_, *stream_);
}

void GatheredBuffer::gather() {
  start_gather();
  if (!gathering_) return;
  gathering_->wait();
  if (gathered_) gathered_->block(device::current_stream_of(whole_.device()));
  gathering_.reset();
  is_whole_ = true;
}

void GatheredBuffer::release() {
  if (gathering_) gather();
  if (!is_whole_) return;
  nn::release_memory(whole_);
  is_whole_ = false;
}

GatheredBuffer::Part GatheredBuffer::own_part(const at::Tensor& view) const {
  DSFT_CHECK(holds(view), "a tensor of another storage");
  if (wait_) wait_();
  // an update on the device may still be on its way to a slice on the host
  if (own_.device() != whole_.device()) device::current_stream_of(whole_.device()).synchronize();
  const int64_t size = own_.numel(), slice = communicator_.rank() * size, offset = view.storage_offset();
  const int64_t begin = std::max(slice, offset), end = std::min(slice + size, offset + view.numel());
  if (begin >= end) return {0, own_.narrow(0, 0, 0)};
  return {begin - offset, own_.narrow(0, begin - slice, end - begin)};
}

}  // namespace dsft::zero

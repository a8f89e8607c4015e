#include "zero/gathered_buffer.h"

#include <torch/types.h>

#include "base/error.h"

namespace dsft::zero {

GatheredBuffer::GatheredBuffer(at::Tensor whole, comm::Communicator& communicator)
    : whole_(std::move(whole)), communicator_(communicator) {
  DSFT_CHECK(whole_.is_contiguous() && whole_.storage_offset() == 0 && whole_.numel() % communicator.size() == 0 &&
                 whole_.nbytes() == whole_.storage().nbytes(),
             "a buffer of ", whole_.sizes(), " for ", communicator.size(), " ranks");
  own_ = slice_of_whole().clone();
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
  gathering_ = communicator_.start_all_gather(whole_, own_);
}

void GatheredBuffer::gather() {
  start_gather();
  if (!gathering_) return;
  gathering_->wait();
  gathering_.reset();
  is_whole_ = true;
}

void GatheredBuffer::release() {
  if (gathering_) gather();
  if (!is_whole_) return;
  whole_.storage().unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(nullptr, whole_.device()));
  is_whole_ = false;
}

void GatheredBuffer::keep_changes() {
  DSFT_CHECK(is_whole_, "changes of a buffer that is not whole");
  const at::NoGradGuard no_grad;
  own_.copy_(slice_of_whole());
}

}  // namespace dsft::zero

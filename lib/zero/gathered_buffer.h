#pragma once

#include <ATen/core/Tensor.h>

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <functional>
#include <memory>
#include <optional>

#include "comm/communicator.h"
#include "device/host_buffer.h"

namespace dsft::zero {

/// Where the slices of buffers lie between uses, and how they get to the device.
struct SlicePlace {
  std::optional<device::HostPages> on_host = {};  ///< in host memory; none: on the buffer's device
  std::optional<c10::Stream> stream = {};         ///< on which gathering begins, beside the device's other work
};

/// A flat buffer that is whole on a rank only while it is used; else every rank has its slice alone. What are views of
/// the whole buffer, parameters and what autograd keeps of them, stay so meanwhile, but their memory is not there:
/// they must not be read.
class GatheredBuffer final {
 public:
  /// Takes its slice of `whole` [ranks * n], which owns its storage and is equal on all ranks, and gives the rest of
  /// the memory back. Faults (kDevice) where the slice is to lie in host memory and there is no room.
  GatheredBuffer(at::Tensor whole, comm::Communicator& communicator, const SlicePlace& place = {});

  /// Has `wait` called before the slice is read, or gathered: it returns when the slice may be read by the host, and by
  /// what is enqueued on the current stream from then on.
  void wait_before_gather(std::function<void()> wait) { wait_ = std::move(wait); }

  /// Begins to make it whole, unless it is or is under way. Collective.
  void start_gather();
  /// After this the current stream (or a host thread) finds it whole. Collective.
  void gather();
  /// Gives the whole buffer's memory back.
  void release();
  bool is_whole() const { return is_whole_; }

  /// Whether a tensor is a view of the whole buffer.
  bool holds(const at::Tensor& tensor) const { return tensor.is_alias_of(whole_); }
  /// What of a contiguous view lies in this rank's slice.
  struct Part {
    int64_t first = 0;  ///< element of the view
    at::Tensor values;  ///< flat, of own(); perhaps empty
  };
  /// The host may read it: what the current stream has been given to write there has arrived.
  Part own_part(const at::Tensor& view) const;

  /// This rank's slice [n], where its place is; where it has been written, release() has to follow.
  const at::Tensor& own() const { return own_; }
  const at::Tensor& whole() const { return whole_; }

 private:
  at::Tensor slice_of_whole() const;

  at::Tensor whole_, own_;
  comm::Communicator& communicator_;
  std::optional<c10::Stream> stream_;
  std::function<void()> wait_;  // may be empty
  bool is_whole_ = true;
  std::unique_ptr<comm::Work> gathering_;
  std::optional<c10::Event> gathered_;  // what `stream_` did for it
};

}  // namespace dsft::zero

#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "comm/communicator.h"

namespace dsft::zero {

/// A flat buffer that is whole on a rank only while it is used; else every rank has its slice alone. What are views of
/// the whole buffer, parameters and what autograd keeps of them, stay so meanwhile, but their memory is not there:
/// they must not be read.
class GatheredBuffer final {
 public:
  /// Takes its slice of `whole` [ranks * n], which owns its storage and is equal on all ranks, and gives the rest of
  /// the memory back.
  GatheredBuffer(at::Tensor whole, comm::Communicator& communicator);

  /// Begins to make it whole, unless it is or is under way. Collective.
  void start_gather();
  /// After this the current stream (or a host thread) finds it whole. Collective.
  void gather();
  /// Gives the whole buffer's memory back.
  void release();
  bool is_whole() const { return is_whole_; }

  /// The slice takes what has been written into the whole buffer, alike on all ranks.
  void keep_changes();

  /// This rank's slice [n]; where it has been written, release() has to follow.
  const at::Tensor& own() const { return own_; }
  const at::Tensor& whole() const { return whole_; }

 private:
  at::Tensor slice_of_whole() const;

  at::Tensor whole_, own_;
  comm::Communicator& communicator_;
  bool is_whole_ = true;
  std::unique_ptr<comm::Work> gathering_;
};

}  // namespace dsft::zero

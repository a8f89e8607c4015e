#pragma once

#include <functional>

#include "checkpoint/tensor_file.h"
#include "comm/communicator.h"
#include "zero/parameter_shards.h"

namespace dsft::checkpoint {

/// The ranks of a run while rank 0 writes what they hold together. What is sharded is gathered buffer by buffer, each
/// only while it is written. Where rank 0 fails, all ranks throw its error at the same place, so that none waits for
/// another's next call.
class WritingRanks {
 public:
  /// `shards`: null where rank 0 has all tensors. Both outlive this.
  WritingRanks(comm::Communicator& communicator, const zero::ParameterShards* shards)
      : communicator_(communicator), shards_(shards) {}

  /// Runs a step on rank 0. Collective.
  void write(const std::function<void()>& step);

  /// Runs a step on rank 0 for each of these tensors, in their order, with the memory of each there. All ranks give the
  /// same ones. Collective.
  void write_each(const NamedTensors& tensors, const std::function<void(const at::Tensor&)>& step);

 private:
  zero::GatheredBuffer* buffer_of(const at::Tensor& tensor) const {
    return shards_ ? shards_->buffer_of(tensor) : nullptr;
  }

  comm::Communicator& communicator_;
  const zero::ParameterShards* shards_;
};

}  // namespace dsft::checkpoint

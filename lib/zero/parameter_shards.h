#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "zero/gathered_buffer.h"
#include "zero/host_share.h"

namespace dsft::zero {

/// Whether a rank has slices of parameters between their uses: at stage 3, of several ranks, or its own in host memory.
inline bool slices_parameters(int64_t stage, int num_ranks, bool are_offloaded) {
  return stage >= 3 && (num_ranks > 1 || are_offloaded);
}

/// The buffer of parameters that a block runs with.
struct BlockBuffer {
  GatheredBuffer* buffer;
  int64_t block;
};

/// A parameter that is not trained.
struct FrozenParameter {
  at::Tensor parameter;
  int64_t block = 0;
};

/// Stage 3: each rank holds its slices of the parameters, and those of a block are gathered while it runs. A block's
/// gathering starts when the block before it begins, forward and backward, so that it runs beside that one's
/// computations; slices that lie in host memory are on their way to the device then. The same calls in the same order
/// on every rank.
class ParameterShards final {
 public:
  /// Of a model with so many blocks. Shards `frozen`, whose storage it takes (one without memory begins as zeros);
  /// `trained`: the optimizer's, which outlives this. `offloads`: the slices of what is frozen lie in host memory;
  /// faults (kDevice) where there is no room, before any rank takes some. Collective.
  ParameterShards(int64_t num_blocks, const std::vector<FrozenParameter>& frozen,
                  const std::vector<BlockBuffer>& trained, comm::Communicator& communicator,
                  const std::optional<HostShare>& offloads = {});

  /// Says that a block reads the parameters of another one too (a tied head those of the embedding).
  void share(int64_t block, int64_t with_block);

  /// The buffer that a parameter is a view of; null: it is whole on every rank.
  GatheredBuffer* buffer_of(const at::Tensor& parameter) const;

  /// Before a block runs; `next`: the one that will run after it, -1: none. Collective.
  void begin_block(int64_t block, int64_t next);
  /// After it ran. `is_needed_next`: its backward pass follows at once.
  void end_block(int64_t block, bool is_needed_next);
  /// After forward passes that no backward pass follows, and before slices are written: what was kept, or gathered
  /// ahead, goes. Collective.
  void end_passes();

 private:
  friend class WholeParameters;
  std::vector<std::unique_ptr<GatheredBuffer>> frozen_;
  std::vector<std::vector<GatheredBuffer*>> by_block_;
  std::vector<GatheredBuffer*> all_;
  int64_t kept_ = -1;  // a block that ended, whose buffers are needed next
  bool is_all_whole_ = false;
};

/// All parameters whole on every rank while it lives: for what reads a model not block by block, or not the same way on
/// every rank. Collective; does nothing where `shards` is null.
class WholeParameters final {
 public:
  explicit WholeParameters(ParameterShards* shards);
  ~WholeParameters();
  WholeParameters(const WholeParameters&) = delete;
  WholeParameters& operator=(const WholeParameters&) = delete;

 private:
  ParameterShards* shards_;
};

}  // namespace dsft::zero

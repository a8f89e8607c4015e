#pragma once

#include <compare>

#include "batch/batch.h"

namespace dsft {

/// The sizes of a batch that is padded so that many batches have the same ones: what is recorded for one of them can be
/// replayed for all.
struct PaddedShape {
  int64_t tokens = 0;
  int64_t documents = 0;
  int64_t supervised = 0;
  int64_t longest = 0;
  int64_t policy_members = 0;  ///< PolicyTargets::members; 0: there are none
  auto operator<=>(const PaddedShape&) const = default;
};

/// The smallest shape that takes the batch: tokens are a multiple of an eighth of the power of two below, and of 64;
/// supervised tokens of a quarter of those; documents and the longest of them, at least a quarter, are powers of two.
PaddedShape padded_shape(const Batch& batch);

/// The batch in a larger shape, on the host: one more document that is not supervised, of tokens that the batch has
/// anyway, then empty ones; and supervised tokens a second time with weight 0;
/// and rows of a policy without tokens, of weight 0. It adds nothing to any sum or gradient.
/// At least one token must be supervised where there are to be more of them.
Batch pad_batch(const Batch& batch, const PaddedShape& shape);

/// Memory on a device that holds the tensors of one batch after another, all of the shapes of the first, at the same
/// addresses.
class BatchBuffer {
 public:
  BatchBuffer(const Batch& first, at::Device device);

  /// Takes the next batch of the host, by one copy that the host does not wait for.
  const Batch& load(const Batch& batch);

 private:
  at::Tensor bytes_;
  Batch batch_;  ///< its tensors are views of bytes_
};

}  // namespace dsft

#pragma once

#include <cstdint>

#include "estimate/workload.h"

namespace dsft::estimate {

/// Bytes by what they are for; they add up to the peak.
struct Columns {
  int64_t weights = 0;    ///< the model's parameters in the type of the arithmetic, A and B in fp32; a reference policy
  int64_t gradients = 0;  ///< fp32 sums over micro-batches
  int64_t optimizer = 0;  ///< fp32 masters of 16-bit parameters, and both moments
  int64_t activations =
      0;                ///< what layers keep; and by how much the work of one layer's backward pass exceeds the loss's
  int64_t loss = 0;     ///< head and loss
  int64_t buffers = 0;  ///< blocks that are gathered or reduced, scratch memory, and what is there only outside of
                        ///< steps: by how much the peak with them exceeds the one without

  int64_t total() const { return weights + gradients + optimizer + activations + loss + buffers; }
  bool operator==(const Columns&) const = default;
};

/// What a run takes: at most on any GPU, and of all ranks together in the host's memory. On CPU ranks all of it is the
/// host's. The processes themselves (LibTorch, CUDA's context) do not count.
struct MemoryEstimate {
  Placement placement;
  Columns gpu;
  Columns host;
  int64_t outside = 0;  ///< part of a rank's buffers: by how much what is there outside of steps exceeds a step
};

/// Estimates the peak of a run, in bytes of tensors. Throws kUsage as match_lora_targets does.
MemoryEstimate estimate_memory(const Workload& workload, const Placement& placement);

/// "12.3 GiB".
std::string to_gib(int64_t bytes);

}  // namespace dsft::estimate

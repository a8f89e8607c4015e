#pragma once

#include <algorithm>
#include <cstdint>

#include "estimate/workload.h"

namespace dsft::estimate {

/// Bytes that a micro-batch takes on its way through the model, beside the parameters and what is made of them.
struct ActivationBytes {
  int64_t kept = 0;     ///< what all layers keep for the backward pass, and the batch itself
  int64_t working = 0;  ///< most that the backward pass of one layer takes beside all that is kept
  int64_t loss = 0;     ///< most that head and loss take beside all that is kept

  int64_t peak() const { return kept + std::max(working, loss); }
};

/// Follows what lib/nn, lib/kernels and lib/loss save. Every token counts as supervised, which is the most that a loss
/// can take. Throws kUsage for micro-batches of more than 2^34 tokens.
ActivationBytes estimate_activations(const Workload& workload);

/// Bytes of A and B of LoRA as products read them (nn/narrow_adapters.h): in the type of the arithmetic, and on a GPU
/// in 16 bits as one pair for the linear layers of one input. Adapters of the head are not among them.
int64_t narrow_adapter_bytes(const Workload& workload);

/// Most that a decoding step of so many sequences works with beside weights and cache: the logits, or the widest
/// layer's product.
int64_t decoding_step_bytes(const Workload& workload, int64_t num_sequences);

}  // namespace dsft::estimate

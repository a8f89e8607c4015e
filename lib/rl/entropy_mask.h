#pragma once

#include <torch/types.h>

#include <vector>

#include "batch/batch.h"
#include "comm/communicator.h"

namespace dsft::rl {

/// Sets PolicyTargets::entropy_mask of an update's micro-batches on the host: 1 for tokens whose entropy is at least
/// the (1 - share) quantile over the tokens of all ranks that have a weight, as torch.quantile has it: where one of
/// them has no finite entropy but NaN, so is the quantile, and no token is kept. `entropies`: fp32 [N] of each
/// micro-batch, on any device; they are waited for. Collective.
void mask_low_entropy(std::vector<Batch>& micro_batches, const std::vector<at::Tensor>& entropies, double share,
                      comm::Communicator& communicator);

}  // namespace dsft::rl

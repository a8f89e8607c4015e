#pragma once

#include <cstdint>
#include <vector>

#include "estimate/workload.h"

namespace dsft::estimate {

/// Elements of the parameters that one block of a model owns: 0 the embedding, 1..L the layers, L + 1 the final norm
/// and a head that is not tied.
struct BlockParameters {
  int64_t model = 0;    ///< the checkpoint's own
  int64_t trained = 0;  ///< of them trained, each at the alignment of the optimizer's flat buffers (zero::ShardPlan)
  int64_t lora = 0;     ///< A and B, in fp32 and whole on every rank
};

/// Throws kUsage as match_lora_targets does.
std::vector<BlockParameters> parameter_blocks(const Workload& workload);

/// Elements of one of the equal slices into which a block of so many is cut.
int64_t slice_of(int64_t elements, int64_t num_ranks);

/// Names of the tensors that a run trains beside A and B: all, or those of modules_to_save and biases.
std::vector<std::string> trained_tensors(const Workload& workload);

}  // namespace dsft::estimate

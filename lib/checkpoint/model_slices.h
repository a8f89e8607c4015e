#pragma once

#include <string>
#include <vector>

#include "checkpoint/tensor_file.h"
#include "zero/parameter_shards.h"

namespace dsft::checkpoint {

/// Consecutive elements of a tensor of a checkpoint, flat in memory.
struct TensorSlice {
  std::string name;
  std::vector<int64_t> shape;  ///< of the whole tensor
  int64_t first = 0;           ///< element
  at::Tensor values;           ///< any device; perhaps empty
};

/// What this rank has of each parameter, sharing their memory: its slice of those that `shards` has, all of the others.
std::vector<TensorSlice> own_slices(const NamedTensors& parameters, const zero::ParameterShards* shards);

}  // namespace dsft::checkpoint

#pragma once

#include <vector>

#include "comm/communicator.h"

namespace dsft::comm {

/// Writes the reduction of `contributions` (one per rank, equal shapes) into `output`, taken in the order of ranks;
/// 16-bit floats are summed in fp32 and rounded once. `output` may be one of the contributions.
void reduce_in_rank_order(at::Tensor& output, const std::vector<at::Tensor>& contributions, ReduceOp op);

/// Elements [begin, end) of a flat tensor.
struct Part {
  int64_t begin;
  int64_t end;
};

/// Those that `rank` reduces: even parts, the first ones one element larger.
Part part_of(int64_t numel, int size, int rank);

at::Tensor slice(const at::Tensor& flat, Part part);

/// Faults what the CPU communicators cannot carry: other devices, types, or tensors with gaps. `what` names the tensor.
void check_cpu_tensor(const at::Tensor& tensor, const char* what);

/// Checks the sizes of a reduce_scatter (`whole` is the input) or an all_gather (`whole` is the output).
void check_slices(const at::Tensor& whole, const at::Tensor& slice, int num_ranks);

}  // namespace dsft::comm
